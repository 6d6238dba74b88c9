//! sudo's command line.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What is shown with a refused option.
pub const USAGE: &str = "usage: sudo [-bEHikKlnSsv] [-g group] [-p prompt] [-u user] [-D directory] \
                         [--preserve-env[=list]] [VAR=value] [command [argument ...]]";

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Run a command.
    #[default]
    Command,
    /// `-s`: a shell, or a command in it.
    Shell,
    /// `-i`: a login shell, or a command in it.
    Login,
    /// `-l`: what the caller may do.
    List,
    /// `-v`: whether the caller may do anything.
    Validate,
    /// `-k`, `-K` alone: there is nothing to forget.
    Forget,
    /// `-h`.
    Help,
    /// `-V`.
    Version,
}

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What to do.
    pub mode: Mode,
    /// `-u`: name, or `#uid`.
    pub user: Option<String>,
    /// `-g`: name, or `#gid`.
    pub group: Option<String>,
    /// `-D`: where to start.
    pub directory: Option<Vec<u8>>,
    /// `-E`: keep the whole environment.
    pub keep_all: bool,
    /// `-H`: HOME is the target's even so.
    pub set_home: bool,
    /// `-b`: do not wait.
    pub background: bool,
    /// `--preserve-env=`: names to keep.
    pub keep: Vec<String>,
    /// `NAME=value` before the command.
    pub assignments: Vec<Vec<u8>>,
    /// The command and its arguments.
    pub command: Vec<Vec<u8>>,
}

/// Reads the arguments after the program's name. The error is one line for the user, without `sudo: `.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = arguments.into_iter().peekable();
    while let Some(argument) = rest.peek() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            rest.next();
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            if !is_assignment(bytes) {
                break;
            }
            options.assignments.push(bytes.to_vec());
            rest.next();
            continue;
        }
        let text = argument
            .to_str()
            .ok_or_else(|| "an option is not valid UTF-8".to_owned())?
            .to_owned();
        rest.next();
        let mut next = || rest.next();
        match text.strip_prefix("--") {
            Some(long) => parse_long(&mut options, long, &mut next)?,
            None => parse_short(&mut options, &text[1..], &mut next)?,
        }
    }
    // After `--` too: sudo takes variables up to the command's name.
    options.command = rest.map(OsString::into_vec).collect();
    let variables = options.command.iter().take_while(|word| is_assignment(word)).count();
    options.assignments.extend(options.command.drain(..variables));
    check(options)
}

fn check(mut options: Options) -> Result<Options, String> {
    let named = !options.command.is_empty();
    match options.mode {
        Mode::Forget if named => options.mode = Mode::Command,
        Mode::Command if !named => return Err("no command is named".to_owned()),
        Mode::Validate if named => return Err("-v takes no command".to_owned()),
        _ => {}
    }
    Ok(options)
}

type Next<'a> = &'a mut dyn FnMut() -> Option<OsString>;

fn parse_short(options: &mut Options, letters: &str, next: Next<'_>) -> Result<(), String> {
    for (place, letter) in letters.char_indices() {
        let attached = &letters[place + letter.len_utf8()..];
        let mut value = || match attached {
            "" => next().ok_or_else(|| format!("option requires an argument -- '{letter}'")),
            text => Ok(OsString::from(text)),
        };
        match letter {
            'u' => options.user = Some(text(value()?)?),
            'g' => options.group = Some(text(value()?)?),
            'D' => options.directory = Some(value()?.into_vec()),
            // A prompt that is never shown.
            'p' => drop(value()?),
            _ => {
                flag(options, letter).ok_or_else(|| format!("invalid option -- '{letter}'"))?;
                continue;
            }
        }
        return Ok(());
    }
    Ok(())
}

fn parse_long(options: &mut Options, long: &str, next: Next<'_>) -> Result<(), String> {
    let (name, given) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    if name == "preserve-env" {
        match given {
            Some(list) => options
                .keep
                .extend(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            None => options.keep_all = true,
        }
        return Ok(());
    }
    if let Some(letter) = match name {
        "background" => Some('b'),
        "bell" => Some('B'),
        "help" => Some('h'),
        "list" => Some('l'),
        "login" => Some('i'),
        "non-interactive" => Some('n'),
        "no-update" => Some('N'),
        "remove-timestamp" => Some('K'),
        "reset-timestamp" => Some('k'),
        "set-home" => Some('H'),
        "shell" => Some('s'),
        "stdin" => Some('S'),
        "askpass" => Some('A'),
        "validate" => Some('v'),
        "version" => Some('V'),
        _ => None,
    } {
        if given.is_some() {
            return Err(format!("option '--{name}' doesn't allow an argument"));
        }
        return flag(options, letter).ok_or_else(|| format!("unrecognized option '--{name}'"));
    }
    if !["user", "group", "prompt", "chdir"].contains(&name) {
        return Err(format!("unrecognized option '--{name}'"));
    }
    let value = match given {
        Some(value) => OsString::from(value),
        None => next().ok_or_else(|| format!("option '--{name}' requires an argument"))?,
    };
    match name {
        "user" => options.user = Some(text(value)?),
        "group" => options.group = Some(text(value)?),
        "chdir" => options.directory = Some(value.into_vec()),
        _ => {}
    }
    Ok(())
}

/// Takes an option without a value; None = there is none of that letter.
fn flag(options: &mut Options, letter: char) -> Option<()> {
    match letter {
        'b' => options.background = true,
        'E' => options.keep_all = true,
        'H' => options.set_home = true,
        'i' => options.mode = Mode::Login,
        's' => options.mode = Mode::Shell,
        'l' => options.mode = Mode::List,
        'v' => options.mode = Mode::Validate,
        'h' => options.mode = Mode::Help,
        'V' => options.mode = Mode::Version,
        'k' | 'K' if options.mode == Mode::Command => options.mode = Mode::Forget,
        // About passwords, which are never asked for.
        'k' | 'K' | 'A' | 'B' | 'N' | 'n' | 'S' => {}
        _ => return None,
    }
    Some(())
}

fn text(value: OsString) -> Result<String, String> {
    value
        .into_string()
        .map_err(|_| "an option's value is not valid UTF-8".to_owned())
}

fn is_assignment(word: &[u8]) -> bool {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < word.len()
        && !name.is_empty()
        && !name[0].is_ascii_digit()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn finds_the_command_and_its_variables() {
        for (line, assignments, command) in [
            ("id -u", "", "id -u"),
            ("-n id", "", "id"),
            ("-nE -H -S id -x", "", "id -x"),
            ("A=1 B=2 env C=3", "A=1 B=2", "env C=3"),
            ("-E A=1 -u root env", "A=1", "env"),
            ("-- -x", "", "-x"),
            ("-- A=1 env", "A=1", "env"),
            ("./a=b", "", "./a=b"),
            ("1a=b", "", "1a=b"),
            ("-k id", "", "id"),
            ("-p prompt: id", "", "id"),
            ("-pprompt id", "", "id"),
        ] {
            let options = read(line).unwrap();
            assert_eq!(options.assignments, words(assignments), "{line}");
            assert_eq!(options.command, words(command), "{line}");
            assert_eq!(options.mode, Mode::Command, "{line}");
        }
    }

    #[test]
    fn reads_options() {
        type Check = fn(&Options) -> bool;
        let cases: [(&str, Check); 17] = [
            ("-u www id", |o| o.user.as_deref() == Some("www")),
            ("-uwww id", |o| o.user.as_deref() == Some("www")),
            ("-nu www id", |o| o.user.as_deref() == Some("www")),
            ("--user=www id", |o| o.user.as_deref() == Some("www")),
            ("--user www id", |o| o.user.as_deref() == Some("www")),
            ("-u #1000 -g #5 id", |o| o.group.as_deref() == Some("#5")),
            ("-D /tmp id", |o| o.directory.as_deref() == Some(b"/tmp".as_slice())),
            ("--preserve-env id", |o| o.keep_all),
            ("--preserve-env=A,B,,C id", |o| !o.keep_all && o.keep == ["A", "B", "C"]),
            ("-b id", |o| o.background),
            ("-i", |o| o.mode == Mode::Login && o.command.is_empty()),
            ("-s", |o| o.mode == Mode::Shell),
            ("-su www id", |o| o.mode == Mode::Shell && o.command == words("id")),
            ("-l", |o| o.mode == Mode::List),
            ("-v", |o| o.mode == Mode::Validate),
            ("-k", |o| o.mode == Mode::Forget),
            ("-K", |o| o.mode == Mode::Forget),
        ];
        for (line, check) in cases {
            let options = read(line).unwrap();
            assert!(check(&options), "{line}: {options:?}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for line in [
            "",
            "-n",
            "-x id",
            "-nx id",
            "-e /etc/passwd",
            "-R / id",
            "--nonsense id",
            "--login=yes",
            "-u",
            "--user",
            "-v id",
            "A=1",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
