//! Memory and CPU of processes, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// The unit of CPU time in `/proc/PID/stat`: a hundredth of a second on every Linux.
const TICKS: f64 = 100.0;

/// The memory of a process, in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// The present memory.
    pub(crate) now: f64,
    /// The largest memory since the start of the process.
    pub(crate) peak: f64,
}

/// The memory of a process; `None` if it has ended.
pub(crate) fn memory(id: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    };
    Some(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// The memory of a process. Fails if it has ended.
pub(crate) fn memory_of_running(id: u32) -> Result<Memory> {
    memory(id).with_context(|| format!("the process {id} has ended"))
}

/// The seconds of CPU of a process and of the children that it has waited for.
pub(crate) fn cpu(id: u32) -> Result<f64> {
    stat(id).map(|stat| stat.cpu).with_context(|| format!("the process {id} has ended"))
}

/// The total usage of some processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    /// Seconds of CPU.
    pub(crate) cpu: f64,
    /// Resident memory in MiB; a shared page counts for each process.
    pub(crate) memory: f64,
}

/// The sum over `roots` and their descendants, of the processes with this name.
pub(crate) fn sum(roots: &[u32], name: &str) -> Sum {
    let mut all = Vec::new();
    let mut open: Vec<u32> = roots.to_vec();
    let stats = all_stats();
    while let Some(id) = open.pop() {
        open.extend(stats.iter().filter(|stat| stat.parent == id).map(|stat| stat.id));
        all.extend(stats.iter().find(|stat| stat.id == id));
    }
    let mut sum = Sum::default();
    for stat in all.into_iter().filter(|stat| stat.name == name) {
        sum.cpu += stat.cpu;
        sum.memory += memory(stat.id).unwrap_or_default().now;
    }
    sum
}

struct Stat {
    id: u32,
    name: String,
    parent: u32,
    cpu: f64,
}

fn all_stats() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    ids.filter_map(stat).collect()
}

fn stat(id: u32) -> Option<Stat> {
    parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Parses a line of proc(5). The name in brackets may contain any character, so fields are counted
/// from its end.
fn parse(id: u32, text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // utime, stime, cutime and cstime are the fields 14 to 17; the name is the second.
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok());
    let ticks: f64 = ticks.sum::<Option<f64>>()?;
    Some(Stat {
        id,
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        cpu: ticks / TICKS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_stat_and_the_own_memory_are_read() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 9 9 9";
        let stat = parse(7, line).unwrap();
        assert_eq!((stat.parent, stat.name.as_str()), (3, "a) b"));
        assert!((stat.cpu - 2.0).abs() < 1e-9);
        let own = memory_of_running(std::process::id()).unwrap();
        assert!(own.now > 0.5 && own.peak >= own.now);
    }
}
