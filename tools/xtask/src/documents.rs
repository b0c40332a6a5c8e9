//! Checks the documents: links lead somewhere, code is in a file that runs, and the tests that are
//! named exist.
//!
//! Examples in documents are copies of parts of `examples/`. A copy can become outdated, so each
//! paragraph of a code block must be found, line by line, in one file of that folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The languages whose code blocks must be in an example, by the name after the fence.
const EXAMPLES: [(&str, &str); 3] = [("python", "py"), ("js", "js"), ("csharp", "cs")];

/// The document that names tests.
const NAMES_TESTS: &str = "docs/internals/invariants.md";

/// Finds broken links and code that is in no example, each as `path:line: why`.
pub(crate) fn faults(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let is_document = |file: &&PathBuf| file.extension().is_some_and(|it| it == "md");
    let mut documents = HashMap::new();
    for file in files.iter().filter(is_document) {
        let name = file.canonicalize().with_context(|| format!("finding {}", file.display()))?;
        documents.insert(name, Document::parse(&read(file)?));
    }
    let examples = examples(root)?;
    let mut faults = missing_tests(root, files)?;
    for (file, document) in &documents {
        let path = file.strip_prefix(root).unwrap_or(file).display();
        let broken = document.links.iter().filter(|link| !leads_somewhere(file, link, &documents));
        faults.extend(broken.map(|link| format!("{path}:{}: no {}", link.line, link.target)));
        for block in &document.blocks {
            if let Some(problem) = block.problem(&examples) {
                faults.push(format!("{path}:{}: {problem}", block.line));
            }
        }
    }
    faults.sort();
    Ok(faults)
}

/// Finds names of tests in [`NAMES_TESTS`] that are in no file.
fn missing_tests(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let is_source = |file: &&PathBuf| file.extension().is_some_and(|it| it == "rs");
    let sources: Vec<String> =
        files.iter().filter(is_source).map(|file| read(file)).collect::<Result<_>>()?;
    let document = read(&root.join(NAMES_TESTS))?;
    let exists = |name: &str| sources.iter().any(|text| text.contains(&format!("fn {name}(")));
    let missing = |(number, line): (usize, &str)| -> Vec<String> {
        let missing = names_of_tests(line).filter(|name| !exists(name));
        missing.map(|name| format!("{NAMES_TESTS}:{number}: no test {name}")).collect()
    };
    Ok((1..).zip(document.lines()).flat_map(missing).collect())
}

/// The names of tests in a line: text in backticks that consists of several words with underscores.
fn names_of_tests(line: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(move |it| it.matches('_').count() >= 3 && it.chars().all(is_word))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// The text of all examples, by the extension of their files.
fn examples(root: &Path) -> Result<Vec<(String, String)>> {
    let folder = root.join("examples");
    let mut examples = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = entry?.path();
        let extension = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        if EXAMPLES.iter().any(|(_, it)| *it == extension) {
            examples.push((extension, read(&file)?));
        }
    }
    Ok(examples)
}

/// A link to a file of the repository, or to a heading of one.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// A fenced block of code.
#[derive(Debug)]
struct Block {
    line: usize,
    language: String,
    text: String,
}

/// The parts of a document that are checked.
#[derive(Debug, Default)]
struct Document {
    links: Vec<Link>,
    blocks: Vec<Block>,
    anchors: Vec<String>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let fence = line.trim_start().strip_prefix("```");
            match (fence, &mut open) {
                (Some(_), Some(_)) => document.blocks.extend(open.take()),
                (Some(language), None) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { line: number, language, text: String::new() });
                }
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => document.read_line(number, line),
            }
        }
        document
    }

    fn read_line(&mut self, number: usize, line: &str) {
        if let Some(heading) = line.strip_prefix('#') {
            let anchor = anchor(heading.trim_start_matches('#').trim());
            let same = |known: &&String| {
                let rest = known.strip_prefix(&anchor).and_then(|rest| rest.strip_prefix('-'));
                **known == anchor || rest.is_some_and(|rest| rest.parse::<usize>().is_ok())
            };
            let n_same = self.anchors.iter().filter(same).count();
            let anchor = if n_same == 0 { anchor } else { format!("{anchor}-{n_same}") };
            self.anchors.push(anchor);
        }
        let targets = without_code(line);
        let targets = targets.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let inside = targets.filter(|target| !target.contains("://") && !target.contains(' '));
        self.links.extend(inside.map(|target| Link { line: number, target: target.to_owned() }));
    }
}

/// A line without the text in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// The anchor that forges give a heading: letters and digits in lower case, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let text: String = match heading.split_once("](") {
        Some((text, rest)) => text.replace('[', "") + rest.split_once(')').map_or("", |it| it.1),
        None => heading.to_owned(),
    };
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn leads_somewhere(file: &Path, link: &Link, documents: &HashMap<PathBuf, Document>) -> bool {
    let (path, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let folder = file.parent().unwrap_or(file);
    let target =
        if path.is_empty() { Ok(file.to_owned()) } else { folder.join(path).canonicalize() };
    let Ok(target) = target else { return false };
    match documents.get(&target) {
        Some(document) => anchor.is_empty() || document.anchors.iter().any(|it| it == anchor),
        None => anchor.is_empty(),
    }
}

impl Block {
    /// Why the block is wrong; `None` if it is right, or is in another language than the examples.
    fn problem(&self, examples: &[(String, String)]) -> Option<String> {
        let (_, extension) = EXAMPLES.iter().find(|(language, _)| *language == self.language)?;
        let text = self.text.trim_end();
        let mut of_language = examples.iter().filter(|(it, _)| it == extension);
        if of_language.any(|(_, example)| paragraphs(text).all(|it| stands_in(it, example))) {
            return None;
        }
        Some(format!("no single file examples/*.{extension} has every paragraph of this block"))
    }
}

fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(|it| it.trim_matches('\n')).filter(|it| !it.is_empty())
}

/// Whether the lines follow each other in the example. All of them may be indented further there.
fn stands_in(paragraph: &str, example: &str) -> bool {
    let wanted: Vec<&str> = paragraph.lines().collect();
    let lines: Vec<&str> = example.lines().collect();
    lines.windows(wanted.len()).any(|window| {
        let more = window[0].len().saturating_sub(wanted[0].len());
        let same = |(wanted, found): (&&str, &&str)| {
            let (indent, rest) = found.split_at_checked(more).unwrap_or((found, ""));
            indent.trim().is_empty() && rest == *wanted
        };
        wanted.iter().zip(window).all(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_and_to_other_sites_are_not_looked_at() {
        let text = "[a](b.md) `[c](d.md)` [e](https://example.org/f.md)\n```\n[g](h.md)\n```\n";
        let links = Document::parse(text).links;
        assert_eq!(links, [Link { line: 1, target: "b.md".to_owned() }]);
    }

    #[test]
    fn headings_have_the_anchors_of_forges() {
        let text = "# The `echo`, or: 2 of [them](a.md)!\n## A-b\n## A-b\n```\n# none\n```\n";
        assert_eq!(Document::parse(text).anchors, ["the-echo-or-2-of-them", "a-b", "a-b-1"]);
    }

    #[test]
    fn a_link_to_a_missing_file_or_heading_is_found() {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));
        let file = file.canonicalize().unwrap();
        let documents = HashMap::from([(file.clone(), Document::parse("# Here\n"))]);
        for (target, expected) in [
            ("#here", true),
            ("#there", false),
            ("README.md#here", true),
            ("tools/xtask/Cargo.toml", true),
            ("tools/xtask", true),
            ("missing.md", false),
        ] {
            let link = Link { line: 1, target: target.to_owned() };
            assert_eq!(leads_somewhere(&file, &link, &documents), expected, "{target}");
        }
    }

    #[test]
    fn names_of_tests_have_at_least_four_words() {
        let line = "fail_closed; `a_b_c_d`, `core::a_b_c_d`, `queue_progress`, `e_f_g_2`";
        assert_eq!(names_of_tests(line).collect::<Vec<_>>(), ["a_b_c_d", "e_f_g_2"]);
    }

    #[test]
    fn code_must_stand_in_an_example() {
        let example = "import a\n\ndef b():\n    c()\n    d()\n".to_owned();
        let examples = [("py".to_owned(), example)];
        for (language, text, expected) in [
            ("python", "import a\n\nc()\nd()\n", true),
            ("python", "def b():\n    c()\n", true),
            ("python", "d()\nc()\n", false),
            ("python", "d()\ne()\n", false),
            ("js", "c()\n", false),
            ("json", "{}\n", true),
        ] {
            let (language, text) = (language.to_owned(), text.to_owned());
            let block = Block { line: 1, language, text };
            assert_eq!(block.problem(&examples).is_none(), expected, "{block:?}");
        }
    }
}
