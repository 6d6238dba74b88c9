"""What is to be built, from what people write: a Dockerfile or a list of steps becomes a `core.build.Plan`.

The syntax is parsed by a library that follows BuildKit's parser; the meaning is ours. Both functions are pure. They may
take a second for hostile text of the largest size, so a server calls them in a thread.
"""

from __future__ import annotations

from atolld.images.dockerfile.inputs import Inputs
from atolld.images.dockerfile.plan import plan_of_dockerfile
from atolld.images.dockerfile.steplist import IMAGE_PREFIX, plan_of_steps, shell_argv

__all__ = ["IMAGE_PREFIX", "Inputs", "plan_of_dockerfile", "plan_of_steps", "shell_argv"]
