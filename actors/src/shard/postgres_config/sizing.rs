//! Settings that follow the size of the pods (`workloads.md` 9.3).

/// `max_connections`; the poolers' pools are sized to it, so a user's value does not enter the sizing.
const MAX_CONNECTIONS: i64 = 60;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;

/// What the pods offer: the most memory and CPU of any pool, the least disk. Zero means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizing {
    /// Bytes of memory.
    pub memory: i64,
    /// Thousandths of a core.
    pub millicores: i64,
    /// Bytes of disk.
    pub disk: i64,
}

/// The settings of pods of this size.
pub(super) fn sized(sizing: Sizing) -> Vec<(&'static str, String)> {
    let mut result = Vec::new();
    let cores = sizing.millicores / 1000;
    let mut per_gather = 1;
    if cores >= 4 {
        per_gather = cores / 2;
        result.push(("max_worker_processes", cores.to_string()));
        result.push(("max_parallel_workers", cores.to_string()));
        result.push(("max_parallel_workers_per_gather", per_gather.to_string()));
        result.push((
            "max_parallel_maintenance_workers",
            (cores / 2).min(4).to_string(),
        ));
    }
    if sizing.memory > 0 {
        let memory = sizing.memory;
        let shared = memory / 4;
        let work = (memory - shared) / (MAX_CONNECTIONS * 3) / per_gather.max(1);
        result.push(("shared_buffers", size(shared)));
        // Divided first, so that no input can overflow.
        result.push((
            "effective_cache_size",
            size(memory / 4 * 3 + memory % 4 * 3 / 4),
        ));
        result.push(("maintenance_work_mem", size((memory / 16).min(2 * GIB))));
        result.push((
            "wal_buffers",
            size((shared / 100 * 3 + shared % 100 * 3 / 100).clamp(32 * KIB, 16 * MIB)),
        ));
        result.push(("work_mem", size(work.max(64 * KIB))));
    }
    if sizing.disk > 0 {
        let megabytes = sizing.disk / MIB;
        let max = (megabytes / 4).clamp(64, 4096);
        result.push(("max_wal_size", format!("{max}MB")));
        result.push(("max_slot_wal_keep_size", format!("{max}MB")));
        result.push(("min_wal_size", format!("{}MB", (max / 4).clamp(32, 1024))));
        result.push((
            "wal_keep_size",
            format!("{}MB", (megabytes / 8).clamp(32, 1000)),
        ));
    }
    result
}

/// A size in the largest unit that divides it; what is below a kilobyte is dropped.
fn size(bytes: i64) -> String {
    let kilobytes = bytes / KIB;
    if kilobytes != 0 && kilobytes % (KIB * KIB) == 0 {
        format!("{}GB", kilobytes / (KIB * KIB))
    } else if kilobytes != 0 && kilobytes % KIB == 0 {
        format!("{}MB", kilobytes / KIB)
    } else {
        format!("{kilobytes}kB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_table() {
        let value = |settings: &[(&'static str, String)], name: &str| {
            settings
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.clone())
                .unwrap_or_default()
        };
        let large = sized(Sizing {
            memory: 64 * GIB,
            millicores: 16_000,
            disk: 500 * GIB,
        });
        for (name, expected) in [
            ("shared_buffers", "16GB"),
            ("effective_cache_size", "48GB"),
            ("maintenance_work_mem", "2GB"),
            ("wal_buffers", "16MB"),
            ("work_mem", "34952kB"),
            ("max_worker_processes", "16"),
            ("max_parallel_maintenance_workers", "4"),
            ("min_wal_size", "1024MB"),
            ("max_wal_size", "4096MB"),
            ("wal_keep_size", "1000MB"),
        ] {
            assert_eq!(value(&large, name), expected, "{name}");
        }
        let middle = sized(Sizing {
            memory: 4 * GIB,
            millicores: 2_000,
            disk: 10 * GIB,
        });
        assert_eq!(value(&middle, "work_mem"), "17476kB");
        assert_eq!(value(&middle, "max_wal_size"), "2560MB");
        assert_eq!(value(&middle, "max_worker_processes"), "");
    }
}
