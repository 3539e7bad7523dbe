//! Golden scripts of the coordinators: `core/testscripts/FOLDER/*.script`, a story per file.
//!
//! A line that is not indented is a command; the indented lines after it are all that must come of it. A line that
//! starts with `#` is a comment, one that starts with `config ` is for the world that the story begins in. With
//! `UPDATE_SCRIPTS=1` in the environment the scripts are written anew.

use std::fmt::Write;
use std::path::Path;

/// Plays every script of `testscripts/FOLDER`, of which there are `at_least` so many; `play` gives what a script looks
/// like with what really comes of its commands.
pub fn hold(folder: &str, at_least: usize, play: fn(&str) -> String) {
    let folder = Path::new("testscripts").join(folder);
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        let outcome = play(&script);
        count += 1;
        if outcome == script {
            continue;
        }
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&path, outcome).unwrap();
        } else {
            let at = script.lines().zip(outcome.lines()).take_while(|(want, got)| want == got).count();
            let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
            failed.push(format!("{}:{}\n  want {}\n  got  {}", path.display(), at + 1, line(&script), line(&outcome)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(count >= at_least, "only {count} scripts found");
}

/// The `key=value` words of the script's `config` line.
pub fn config(script: &str) -> impl Iterator<Item = (&str, &str)> {
    let line = script.lines().find_map(|line| line.strip_prefix("config ")).unwrap_or_default();
    line.split_whitespace().map(|word| word.split_once('=').unwrap())
}

/// The script with what comes of its commands: a line for each thing that `carry_out` gives.
pub fn played(script: &str, mut carry_out: impl FnMut(&str) -> Vec<String>) -> String {
    let mut outcome = String::new();
    for line in script.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(outcome, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') || line.starts_with("config ") {
            continue;
        }
        for event in carry_out(line) {
            writeln!(outcome, "    {event}").unwrap();
        }
    }
    outcome
}

/// `10s`, `5m`, `2d` or milliseconds.
pub fn ms(text: &str) -> u64 {
    let unit = |suffix, factor| Some(text.strip_suffix(suffix)?.parse::<u64>().ok()? * factor);
    let units = unit("ms", 1).or_else(|| unit("s", 1_000)).or_else(|| unit("m", 60_000));
    units.or_else(|| unit("d", 86_400_000)).unwrap_or_else(|| panic!("no time: {text}"))
}
