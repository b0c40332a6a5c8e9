//! `cargo xtask fuzz`: looks for inputs that break a property of a parser.
//!
//! The engine is libFuzzer. It is guided by the coverage of the code, which the stable compiler can
//! record: the pass is LLVM's own, and so no nightly compiler and no other program is needed, apart
//! from a C++ compiler for the engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use fanfare_testkit::build::workspace;

use crate::cargo::{cargo, output_of, program, run};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET]... [--minutes N] [--keep]

  TARGET       a folder of tools/fuzz/corpus; all of them when none is given
  --minutes N  how long each target runs, 1 by default
  --keep       afterwards, add the inputs that reach new code to tools/fuzz/corpus";

/// What makes the compiler record coverage in the form that libFuzzer reads.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebuginfo=line-tables-only",
];

/// The longest input, in bytes.
const LONGEST: usize = 4096;

/// The longest time for one input, in seconds, and the most memory, in MiB.
const TIME_LIMIT: u32 = 25;
const MEMORY_LIMIT: u32 = 1024;

struct Arguments {
    targets: Vec<String>,
    minutes: u64,
    keep: bool,
}

/// Runs the targets one after the other. The first finding ends it.
pub(crate) fn run_targets(arguments: &[String]) -> Result<()> {
    let Arguments { targets, minutes, keep } = Arguments::read(arguments)?;
    let binary = build()?;
    for target in targets {
        println!("{target}: {minutes} min");
        let [found, findings] = ["corpus", "findings"].map(|it| folder(it, &target));
        let kept = corpora().join(&target);
        for folder in [&found, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let mut engine = engine(&binary, &target);
        engine.args([&found, &kept]).arg(format!("-max_total_time={}", minutes * 60));
        engine.arg(format!("-artifact_prefix={}/", findings.display()));
        run(&mut engine).with_context(|| {
            format!(
                "{target} found an input, in {}: mend the fault, and add the input to {}",
                findings.display(),
                kept.display()
            )
        })?;
        if keep {
            run(engine_of_merge(&binary, &target).args([&kept, &found]))?;
        }
    }
    Ok(())
}

impl Arguments {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut read = Self { targets: Vec::new(), minutes: 1, keep: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--keep" => read.keep = true,
                "--minutes" => {
                    let minutes = arguments.next().and_then(|text| text.parse().ok());
                    read.minutes = minutes.context(USAGE)?;
                }
                target if !target.starts_with('-') => read.targets.push(target.to_owned()),
                _ => bail!(USAGE),
            }
        }
        let all = all_targets()?;
        if let Some(unknown) = read.targets.iter().find(|target| !all.contains(target)) {
            bail!("there is no target {unknown}; the targets are {}", all.join(", "));
        }
        if read.targets.is_empty() {
            read.targets = all;
        }
        Ok(read)
    }
}

/// The targets: each has a folder of inputs.
fn all_targets() -> Result<Vec<String>> {
    let folders = fs::read_dir(corpora()).context("reading tools/fuzz/corpus")?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = folders.map(name).collect::<Result<_, _>>()?;
    names.sort();
    Ok(names)
}

/// The inputs that are kept in the repository.
fn corpora() -> PathBuf {
    workspace().join("tools/fuzz/corpus")
}

/// A folder for what a run finds.
fn folder(kind: &str, target: &str) -> PathBuf {
    workspace().join("target/fuzz").join(kind).join(target)
}

/// Builds the engine with the targets, apart from all other builds, because every crate has to
/// record its coverage.
fn build() -> Result<PathBuf> {
    let host = output_of(program("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV")?;
    let to = workspace().join("target/fuzz");
    let mut build = cargo();
    // With a target triple, programs that run during the build record nothing.
    build.args(["build", "--profile", "fuzz", "--package", "fanfare-fuzz", "--features", "engine"]);
    build.args(["--target", host, "--target-dir"]).arg(&to);
    build.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    run(&mut build)?;
    let binary = to.join(host).join("fuzz/fuzz");
    ensure!(binary.exists(), "the build left no {}", binary.display());
    Ok(binary)
}

fn engine(binary: &Path, target: &str) -> Command {
    let mut engine = program(binary);
    engine.env("FANFARE_FUZZ_TARGET", target);
    engine.arg(format!("-max_len={LONGEST}"));
    engine.arg(format!("-timeout={TIME_LIMIT}"));
    engine.arg(format!("-rss_limit_mb={MEMORY_LIMIT}"));
    engine.arg("-print_final_stats=1");
    engine
}

/// Adds to the first folder the fewest inputs of the second one that reach code that it does not.
fn engine_of_merge(binary: &Path, target: &str) -> Command {
    let mut engine = engine(binary, target);
    engine.arg("-set_cover_merge=1");
    engine
}
