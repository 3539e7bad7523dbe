//! Modules import only from lower ranks, as docs/ARCHITECTURE.md lays them out.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top; modules of one rank do not import each other. Everyone may import `millstream_core`.
const RANKS: &[&[&str]] = &[
    &["main", "lib", "startup"],
    &["net", "admin", "cli"],
    &["api"],
    &["coordinator", "controller", "share"],
    &["partition"],
    &["raft"],
    &["log", "store", "rpc"],
    &["protocol"],
    &["tls", "config", "telemetry"],
];

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The top-level modules that a file names as `crate::module` or, in a `use crate::{a, b::c}`, in the braces.
fn imported(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        // `millstream_core::crate::` does not exist, but `$crate::` of a macro does.
        if code[..at].ends_with(['$', '_']) || code[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(top_names(group)),
            None => modules.push(first_word(rest)),
        }
    }
    modules
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The names at the top level of `a, b::{c, d}, e}`.
fn top_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut at_start) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if c.is_alphanumeric() && at_start => {
                names.push(first_word(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

/// What is wrong with a file, by the names it imports.
fn faults(module: &str, source: &str) -> Vec<String> {
    let Some(own) = rank(module) else { return vec![format!("module {module} has no rank")] };
    let up = imported(source).into_iter().filter(|name| name != module).filter_map(|name| match rank(&name) {
        None => Some(format!("crate::{name} is no module with a rank")),
        Some(other) if other < own => Some(format!("{module} imports {name} from above")),
        Some(other) if other == own && !matches!(module, "main" | "lib" | "startup") => {
            Some(format!("{module} imports {name} of its own rank"))
        }
        Some(_) => None,
    });
    up.collect()
}

#[test]
fn modules_import_only_from_lower_ranks() {
    let root = Path::new("src");
    let mut files = Vec::new();
    source_files(root, &mut files);
    let mut all = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root).expect("below src");
        let first = relative.components().next().expect("a file").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs");
        let source = fs::read_to_string(&file).expect("a readable file");
        all.extend(faults(module, &source).into_iter().map(|fault| format!("src/{}: {fault}", relative.display())));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn imports_are_found_and_judged() {
    let source = "use crate::{log::{A, net}, raft};\n// crate::net\nfn f() { crate::api::g() }\nmacro!($crate::x);";
    assert_eq!(imported(source), ["log", "raft", "api"]);
    assert_eq!(faults("log", "use crate::config::Config;\nuse crate::log::Reader;"), Vec::<String>::new());
    assert_eq!(faults("log", "use crate::raft::Driver;"), ["log imports raft from above"]);
    assert_eq!(faults("log", "use crate::store::Kv;"), ["log imports store of its own rank"]);
    assert_eq!(faults("log", "use crate::util::x;"), ["crate::util is no module with a rank"]);
}
