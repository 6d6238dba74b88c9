"""Variables in words, replaced as Docker does it: `$x`, `${x:-d}`, `${x:+a}`, `${x:?e}`, `${x#p}`, quotes, escapes.

The library's lexer does the work. It has no bounds, and its patterns are regular expressions in which a hostile one
takes for ever, so what it would cost is counted before it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from e2b_dockerfile_utils import ShellLex

MAX_RESULT = 1024 * 1024
MAX_PATTERN_WORD = 1024
# Characters and steps of patterns; about a second's worth.
BUDGET = 16 * 1024 * 1024

_PATTERNS = re.compile(r"\$\{(?:\w+|[@*#?$!-])[#%/]")


@dataclass(slots=True)
class Expander:
    """Replaces variables by the values of `envs`.

    `escape`: a backslash or a backtick. `keep_unset`: references to variables that are not there stay as they are;
    else they vanish, as in Docker. All methods raise ValueError with a reason: the word is broken, a variable that must
    be set is not, or it takes too much. `budget` is for all calls together.
    """

    escape: str
    keep_unset: bool = False
    budget: int = BUDGET

    def word(self, text: str, envs: Mapping[str, str]) -> str:
        """One word, which may have spaces in it; quotes and escapes are removed."""
        return self._lexed(ShellLex(self.escape, env=envs, skip_unset_env=self.keep_unset), text, envs)[0]

    def words(self, text: str, envs: Mapping[str, str]) -> tuple[str, ...]:
        """As `word`, then split at spaces that are not quoted."""
        return self._lexed(ShellLex(self.escape, env=envs, skip_unset_env=self.keep_unset), text, envs, split=True)

    def document(self, text: str, envs: Mapping[str, str]) -> str:
        """A heredoc: its quotes stay, and a backslash escapes."""
        lexer = ShellLex("\\", skip_process_quotes=True, env=envs, skip_unset_env=self.keep_unset)
        return self._lexed(lexer, text, envs)[0]

    def _lexed(self, lexer: ShellLex, text: str, envs: Mapping[str, str], *, split: bool = False) -> tuple[str, ...]:
        self._spend(text, envs)
        try:
            return tuple(lexer.process_words(text)) if split else (lexer.process_word(text),)
        except ValueError as error:
            # Without the whole word, which the message begins with.
            reason = str(error).removeprefix(f"failed to process {text!r}: ")
            raise ValueError(f"its variables cannot be replaced: {reason[:300]}") from None

    def _spend(self, text: str, envs: Mapping[str, str]) -> None:
        """Raises ValueError when the result could be too long, or patterns take too long."""
        self._take(len(text))
        if "$" not in text:
            return
        values = [value for name, value in envs.items() if name in text]
        longest = max(map(len, values), default=0)
        references = text.count("$")
        if len(text) + references * longest > MAX_RESULT:
            raise ValueError(f"with its variables replaced it could have more than {MAX_RESULT} characters")
        self._take(references * longest)
        patterns = len(_PATTERNS.findall(text))
        if patterns:
            # The variables may be part of a pattern, too.
            if len(text) > MAX_PATTERN_WORD or text.count("*") + sum(value.count("*") for value in values) > 1:
                raise ValueError(
                    "a word with patterns in its variables (${x#p}, ${x%p}, ${x/p/r}) may have one '*' and "
                    f"{MAX_PATTERN_WORD} characters: do it in a RUN"
                )
            # One star, tried from each place of the value.
            self._take(patterns * max(longest, len(text)) ** 2)

    def _take(self, cost: int) -> None:
        self.budget -= cost
        if self.budget < 0:
            raise ValueError("the variables of this stage take too much work to be replaced: use shorter ones")
