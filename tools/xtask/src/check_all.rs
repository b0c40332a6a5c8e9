//! `cargo check-all`: all checks, the fast ones first. It stops at the first one that fails.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fanfare_testkit::build::workspace;
use fanfare_testkit::shared::Shared;

use crate::cargo::{cargo, program, run as show, succeeds};
use crate::{deb, deny, tidy};

struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
    /// What to do if it fails.
    advice: &'static str,
}

/// The tests come last, because they take longest.
const STEPS: [Step; 10] = [
    Step {
        name: "format",
        run: format,
        advice: "run `cargo fmt --all` (`rustup component add rustfmt` if it is missing)",
    },
    Step { name: "tidy", run: tidy::run, advice: "see the lines above" },
    Step {
        name: "clippy",
        run: clippy,
        advice: "fix what it points at (`rustup component add clippy` if it is missing)",
    },
    Step {
        name: "documentation",
        run: documentation,
        advice: "fix the comments that it points at",
    },
    Step {
        name: "dependencies",
        run: deny::run,
        advice: "see deny.toml for what may be used where, and why",
    },
    Step { name: "examples in the documentation", run: examples, advice: "fix them" },
    Step {
        name: "benchmarks run",
        run: benchmarks,
        advice: "see docs/performance.md; its parts can be run alone",
    },
    Step {
        name: "chaos",
        run: chaos,
        advice: "see docs/chaos.md; the logs of its processes are in target/chaos",
    },
    Step {
        name: "Debian package",
        run: package,
        advice: "see crates/fanfare/Cargo.toml for what it has, and deploy/debian for its scripts",
    },
    Step {
        name: "tests",
        run: tests,
        advice: "run one alone with `cargo nextest run -p PACKAGE NAME` or `cargo test -p PACKAGE NAME`",
    },
];

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    for (number, step) in (1..).zip(&STEPS) {
        println!("== {number}/{}: {}", STEPS.len(), step.name);
        let step_start = Instant::now();
        let result = (step.run)();
        println!("   {} s", seconds_since(step_start));
        result.with_context(|| format!("{} failed; {}", step.name, step.advice))?;
    }
    println!("== all {} steps passed in {} s", STEPS.len(), seconds_since(start));
    Ok(())
}

fn format() -> Result<()> {
    show(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    show(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut doc = cargo();
    doc.args(["doc", "--no-deps", "--workspace", "--document-private-items"]);
    show(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn examples() -> Result<()> {
    if has_examples()? {
        show(cargo().args(["test", "--workspace", "--doc"]))
    } else {
        println!("there are none");
        Ok(())
    }
}

/// Checks that the benchmarks work and lose nothing. Speed is measured on a quiet machine instead.
fn benchmarks() -> Result<()> {
    let [bench, fanfare] = binaries(["fanfare-bench", "fanfare"])?;
    let output = program(bench)
        .args(["--smoke", "--binary"])
        .arg(fanfare)
        .output()
        .context("running the benchmarks")?;
    if !output.status.success() {
        bail!("the benchmarks said:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

/// Checks that an installation loses nothing during two minutes of faults. The seed, and so the faults,
/// are always the same; `cargo chaos` makes others.
fn chaos() -> Result<()> {
    let [chaos, fanfare] = binaries(["fanfare-chaos", "fanfare"])?;
    let mut short = program(chaos);
    short.args(["--minutes", "2", "--seed", "7", "--binary"]).arg(fanfare);
    let output = short.output().context("running chaos")?;
    if !output.status.success() {
        let [progress, errors] =
            [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
        bail!("chaos said:\n{progress}\n{}", errors.trim_end());
    }
    Ok(())
}

/// Builds and tests the Debian package.
pub(crate) fn package() -> Result<()> {
    let [fanfare] = binaries(["fanfare"])?;
    deb::check(&fanfare)
}

/// Builds the programs of the workspace, and returns the paths of these.
fn binaries<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N]> {
    // They are next to this program. Its path is read first, since the build may replace it.
    let own = std::env::current_exe().context("looking for this program")?;
    show(cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    Ok(names.map(|name| own.with_file_name(name)))
}

fn tests() -> Result<()> {
    // The tests join these servers, which run until this is dropped.
    let _servers = Shared::join()?;
    if succeeds(cargo().args(["nextest", "--version"])) {
        show(cargo().args(["nextest", "run", "--workspace"]))
    } else {
        show(cargo().args(["test", "--workspace", "--all-targets"]))
    }
}

/// Whether a comment of a library has code that rustdoc would run.
fn has_examples() -> Result<bool> {
    for file in tidy::text_files(workspace())? {
        let is_source = file.components().any(|it| it.as_os_str() == "src");
        if is_source && file.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&file)?;
            if has_example(&text) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn has_example(text: &str) -> bool {
    let comments = text.lines().map(str::trim_start);
    let comments = comments.filter_map(|it| it.strip_prefix("///").or(it.strip_prefix("//!")));
    let fences = comments.filter_map(|it| it.trim_start().strip_prefix("```"));
    // Every second fence closes a block.
    fences.step_by(2).any(|language| !matches!(language, "text" | "json" | "sh" | "sql" | "toml"))
}

fn seconds_since(start: Instant) -> String {
    format!("{:.1}", start.elapsed().as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_examples_from_other_blocks() {
        assert!(!has_example("/// None.\n"));
        assert!(!has_example("//! ```text\n//! a\n//! ```\n"));
        assert!(has_example("//! ```text\n//! a\n//! ```\n/// ```\n/// a();\n/// ```\n"));
    }
}
