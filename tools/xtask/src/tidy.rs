//! The project's own rules about its files: how they begin, their length, what they must not
//! contain, which package may depend on which, and the checks of the documents.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fanfare_testkit::build::workspace;

use crate::{documents, edges, site};

/// The longest file, without its tests. A file has one idea.
const MAX_LINES: usize = 450;

/// The files that are checked, by their ending.
const EXTENSIONS: [&str; 9] = ["erl", "json", "md", "rs", "sh", "sql", "toml", "yaml", "yml"];

/// What no Rust file may contain, and why. The texts are in two parts, so that this file does not
/// contain them.
const FORBIDDEN: [(&str, &str); 6] = [
    (concat!("todo", "!"), "finish it, or leave it out"),
    (concat!("TO", "DO"), "finish it, or leave it out"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("#[ign", "ore"), "a test that does not run says nothing"),
    (concat!("#[should", "_panic"), "test the error, or the message of the panic"),
    (concat!("[all", "ow("), "write #[expect(…, reason = \"…\")]"),
];

/// What no test may contain. It makes tests slow if the time is long, and flaky if it is short.
const SLEEPS: [&str; 2] = ["thread::sleep", "time::sleep"];

/// The beginnings of SQL statements, also in two parts.
const SQL: [&str; 4] = [
    concat!("\"SEL", "ECT "),
    concat!("\"INS", "ERT INTO "),
    concat!("\"UPD", "ATE "),
    concat!("\"DEL", "ETE FROM "),
];

/// The packages that may contain SQL: the store, and the testkit, which creates databases.
const SPEAK_SQL: [&str; 2] = ["crates/store/", "tools/testkit/"];

/// Prints all violations, and fails if there are any.
pub(crate) fn run() -> Result<()> {
    let faults = faults(workspace())?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    match faults.len() {
        0 => Ok(()),
        n => bail!("{n} rules are broken"),
    }
}

/// Finds violations, each as `path:line: why`.
fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = edges::faults()?;
    let files = text_files(root)?;
    faults.extend(documents::faults(root, &files)?);
    faults.extend(site::faults(root, &files)?);
    for file in files {
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let path = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        faults.extend(faults_of(&path, &text));
    }
    Ok(faults)
}

fn faults_of(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut add = |line: usize, why: &str| faults.push(format!("{path}:{line}: {why}"));
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) {
            add(number, "spaces at the end of the line");
        }
    }
    if !has_extension(path, "rs") {
        return faults;
    }
    let source = Source::of(path);
    if source.is_module && !text.starts_with("//!") {
        add(1, "a module begins with //! and its purpose");
    }
    for (number, why) in edges::faults_of_command(path, text) {
        add(number, &why);
    }
    let n_lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if source.is_module && n_lines > MAX_LINES {
        add(n_lines, &format!("{n_lines} lines: a file of one idea has at most {MAX_LINES}"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                add(number, &format!("{word}: {why}"));
            }
        }
        if source.is_test && SLEEPS.iter().any(|word| line.contains(word)) {
            add(number, "a test waits for a state, with a limit, not for a time");
        }
        let may_speak_sql = !source.is_module || number > n_lines;
        if !may_speak_sql && !source.speaks_sql && SQL.iter().any(|start| line.contains(start)) {
            add(number, "SQL is in crates/store only");
        }
    }
    faults
}

/// The kind of a Rust file, by its path.
struct Source {
    /// Part of a library or a program, not of its tests.
    is_module: bool,
    /// In a folder of integration tests.
    is_test: bool,
    speaks_sql: bool,
}

impl Source {
    fn of(path: &str) -> Self {
        let is_test = path.starts_with("tests/") || path.contains("/tests/");
        let is_unit_test = path.ends_with("_tests.rs") || path.ends_with("/tests.rs");
        Self {
            is_module: path.contains("/src/") && !is_test && !is_unit_test,
            is_test,
            speaks_sql: SPEAK_SQL.iter().any(|package| path.starts_with(package)),
        }
    }
}

/// All files that people write, sorted.
pub(crate) fn text_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_made = matches!(name.as_str(), "target" | ".git" | "node_modules");
            if entry.file_type()?.is_dir() {
                folders.extend((!is_made).then(|| entry.path()));
            } else if EXTENSIONS.iter().any(|it| has_extension(&name, it)) {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_keeps_the_rules() {
        assert_eq!(faults(workspace()).unwrap(), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_fault() {
        let module = "crates/core/src/a.rs";
        let test = "crates/core/tests/it/a.rs";
        let long = format!("//! A.\n{}", "// a\n".repeat(MAX_LINES));
        let tested = format!("//! A.\n#[cfg(test)]\n{}", "// a\n".repeat(MAX_LINES));
        let sleep = format!("{}(a);\n", SLEEPS[1]);
        let sql = format!("//! A.\nconst A: &str = {}a\";\n", SQL[0]);
        let forbidden = format!("//! A.\n{}\n", FORBIDDEN[1].0);
        for (path, text, n_faults) in [
            (module, "//! A.\n", 0),
            (module, "struct A;\n", 1),
            (test, "struct A;\n", 0),
            (module, "//! A. \n", 1),
            ("docs/a.md", "a\t\n", 1),
            (module, long.as_str(), 1),
            (module, tested.as_str(), 0),
            (test, sleep.as_str(), 1),
            ("tests/a.rs", sleep.as_str(), 1),
            (module, sql.as_str(), 1),
            ("crates/store/src/a.rs", sql.as_str(), 0),
            (module, forbidden.as_str(), 1),
        ] {
            assert_eq!(faults_of(path, text).len(), n_faults, "{path}: {text}");
        }
    }
}
