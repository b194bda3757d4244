//! The memory that this process may use: that of the machine, or less if a control group (cgroup)
//! limits it.

use std::path::{Component, Path, PathBuf};

/// The kernel's figures of the machine's memory.
const MEMORY_INFO: &str = "/proc/meminfo";
/// The control groups of this process.
const OWN_GROUPS: &str = "/proc/self/cgroup";
/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The memory in bytes. `None` if the kernel does not say. It reads files, so it is called before
/// the OS sandbox forbids that.
pub fn system_memory_bytes() -> Option<u64> {
    limit(|path| std::fs::read_to_string(path).ok())
}

/// The least of the machine's memory and the limits of the process's groups and their parents. A
/// file that cannot be read is no limit. `read` returns the content of a file.
fn limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new(MEMORY_INFO)).and_then(|text| machine_bytes(&text));
    let own = read(Path::new(OWN_GROUPS)).unwrap_or_default();
    let groups = own.lines().filter_map(limit_files).flatten();
    // `max` of version 2 is no number. No limit of version 1 is a very large one.
    let limits = groups.filter_map(|file| read(&file)?.trim().parse::<u64>().ok());
    limits.chain(machine).min()
}

/// Reads `MemTotal:  16384 kB`.
fn machine_bytes(text: &str) -> Option<u64> {
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The files with the limits of a group and its parents, by a line of the process's groups:
/// `0::/a/b` (version 2), or `4:memory:/a/b` (version 1). `None` for other controllers.
fn limit_files(line: &str) -> Option<Vec<PathBuf>> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let (mount, name) = if controllers.is_empty() {
        (PathBuf::from(MOUNT), "memory.max")
    } else if controllers.split(',').any(|it| it == "memory") {
        (Path::new(MOUNT).join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // A container may see its own group as the root, and the path of the machine. Then only the
    // root exists.
    let mut folder = mount;
    let mut files = vec![folder.join(name)];
    for part in Path::new(group).components() {
        if let Component::Normal(part) = part {
            folder.push(part);
            files.push(folder.join(name));
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A title, files with their contents, and the memory that they say.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);

    const MACHINE: (&str, &str) = (MEMORY_INFO, "MemTotal:    2000 kB\nMemFree:  10 kB\n");
    const MACHINE_BYTES: u64 = 2_000 << 10;

    #[test]
    fn the_least_limit_of_a_group_and_its_parents_counts() {
        let v2 = (OWN_GROUPS, "0::/kube/pod\n");
        let v1 = (
            OWN_GROUPS,
            "5:cpu,cpuacct:/x\n4:hugetlb,memory:/kube/pod\n0::/\n",
        );
        let own_v1 = "/sys/fs/cgroup/memory/kube/pod/memory.limit_in_bytes";
        let cases: [Case; 12] = [
            ("no group", &[MACHINE], Some(MACHINE_BYTES)),
            ("unreadable", &[MACHINE, v2], Some(MACHINE_BYTES)),
            (
                "max",
                &[MACHINE, v2, ("/sys/fs/cgroup/kube/pod/memory.max", "max\n")],
                Some(MACHINE_BYTES),
            ),
            (
                "its own",
                &[
                    MACHINE,
                    v2,
                    ("/sys/fs/cgroup/kube/pod/memory.max", "4096\n"),
                ],
                Some(4_096),
            ),
            (
                "its parent's",
                &[
                    MACHINE,
                    v2,
                    ("/sys/fs/cgroup/kube/memory.max", "1024\n"),
                    ("/sys/fs/cgroup/kube/pod/memory.max", "4096\n"),
                ],
                Some(1_024),
            ),
            (
                "below an unlimited parent",
                &[
                    MACHINE,
                    v2,
                    ("/sys/fs/cgroup/kube/memory.max", "max\n"),
                    ("/sys/fs/cgroup/kube/pod/memory.max", "512\n"),
                ],
                Some(512),
            ),
            (
                "a container that sees its group as the root",
                &[MACHINE, v2, ("/sys/fs/cgroup/memory.max", "4096\n")],
                Some(4_096),
            ),
            (
                "more than the machine",
                &[
                    MACHINE,
                    v2,
                    ("/sys/fs/cgroup/kube/pod/memory.max", "9999999999\n"),
                ],
                Some(MACHINE_BYTES),
            ),
            ("version 1", &[MACHINE, v1, (own_v1, "4096\n")], Some(4_096)),
            (
                "version 1 without a limit",
                &[MACHINE, v1, (own_v1, "9223372036854771712\n")],
                Some(MACHINE_BYTES),
            ),
            (
                "a group without the machine's figures",
                &[v2, ("/sys/fs/cgroup/kube/pod/memory.max", "4096\n")],
                Some(4_096),
            ),
            ("nothing", &[], None),
        ];
        for (what, files, expected) in cases {
            let read = |path: &Path| {
                let mut files = files.iter();
                let file = files.find(|(name, _)| Path::new(name) == path)?;
                Some(file.1.to_owned())
            };
            assert_eq!(limit(read), expected, "{what}");
        }
    }

    #[test]
    fn malformed_figures_are_no_limit_and_no_path_leaves_the_mount() {
        for text in ["", "MemTotal: kB", "MemTotal: 1 MB", "MemFree: 1 kB"] {
            assert_eq!(machine_bytes(text), None, "{text:?}");
        }
        for line in ["", "0", "0:", "3:cpu:/a", "3:name=memory:/a"] {
            assert_eq!(limit_files(line), None, "{line:?}");
        }
        let root = PathBuf::from("/sys/fs/cgroup/memory.max");
        assert_eq!(limit_files("0::/../.."), Some(vec![root]));
    }
}
