//! What the reader gives up before it looks at a file.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};

use crate::limits::{READER_ADDRESS_BYTES_MAX, READER_DATA_BYTES_MAX, READER_FILES_MAX};

/// What a process was denied; the kernel need not have all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Files and networks, by Landlock.
    pub landlock: bool,
    /// All system calls but those that computing needs, by seccomp.
    pub seccomp: bool,
}

/// What remains allowed: memory, threads, time, and the sockets and pipes that are open already.
const SYSTEM_CALLS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What a thread is begun with, and a process is not.
const THREAD: u64 = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
/// Memory that no limit counts.
const SHARED: u64 = libc::MAP_SHARED as u64;

/// Gives up everything but computing, for this process and for good.
pub(crate) fn confine(cpu_seconds_max: u64) -> io::Result<Confinement> {
    let limits = [
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, READER_FILES_MAX),
        (Resource::Data, READER_DATA_BYTES_MAX),
        (Resource::As, READER_ADDRESS_BYTES_MAX),
        (Resource::Cpu, cpu_seconds_max),
    ];
    for (resource, limit) in limits {
        // Whoever started the service may have limited it already.
        let limit = getrlimit(resource).maximum.map_or(limit, |maximum| limit.min(maximum));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    let landlock = deny_files();
    Ok(Confinement { landlock, seccomp: deny_system_calls() })
}

/// No rule is added, so all that the kernel can deny is denied.
fn deny_files() -> bool {
    let newest = ABI::V6;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(newest)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(newest)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    restricted.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
}

/// A call that is not allowed fails with EPERM: a library that looks into `/proc` goes on without.
///
/// Of `clone` only threads are left. What `clone3` is asked for cannot be seen from here, so it is not there,
/// and the C library takes `clone`.
fn deny_system_calls() -> bool {
    let programs = || {
        let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
        let absent = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
        let not_there = SeccompAction::Errno(libc::ENOSYS as u32);
        let absent = SeccompFilter::new(absent, SeccompAction::Allow, not_there, architecture)?;
        let mut rules: BTreeMap<_, _> =
            SYSTEM_CALLS.iter().map(|&number| (number, Vec::new())).collect();
        rules.insert(libc::SYS_clone, vec![argument(0, THREAD, THREAD)?]);
        rules.insert(libc::SYS_mmap, vec![argument(3, SHARED, 0)?]);
        let denied = SeccompAction::Errno(libc::EPERM as u32);
        let allowed = SeccompFilter::new(rules, denied, SeccompAction::Allow, architecture)?;
        Ok::<_, seccompiler::BackendError>([BpfProgram::try_from(absent)?, allowed.try_into()?])
    };
    let apply = |program: &BpfProgram| seccompiler::apply_filter_all_threads(program).is_ok();
    programs().is_ok_and(|programs| programs.iter().all(apply))
}

/// That of an argument the bits of `mask` are those of `value`.
fn argument(index: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let is = SeccompCmpOp::MaskedEq(mask);
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Qword, is, value)?])
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    /// What the test below starts as a process of its own: confinement is for good.
    #[test]
    #[ignore = "the process of another test"]
    fn process() {
        let confinement = confine(60).unwrap();
        let thread = std::thread::spawn(|| vec![7_u8; 1 << 20].len());
        assert_eq!(thread.join().unwrap(), 1 << 20, "computing is allowed");
        if confinement.landlock || confinement.seccomp {
            assert!(File::open("/etc/hostname").is_err(), "a file was opened");
            assert!(std::fs::read_dir("/").is_err(), "a directory was read");
            assert!(TcpListener::bind(("127.0.0.1", 0)).is_err(), "a port was opened");
        }
        if confinement.seccomp {
            assert!(Command::new("/bin/true").status().is_err(), "a program was started");
            assert!(
                rustix::process::kill_current_process_group(rustix::process::Signal::CONT).is_err()
            );
        }
        assert!(Vec::<u8>::new().try_reserve_exact(1 << 30).is_err(), "memory has no limit");
    }

    #[test]
    fn a_confined_process_can_do_nothing_but_compute() {
        let words = ["--ignored", "--exact", "confinement::tests::process", "--nocapture"];
        let output = Command::new(std::env::current_exe().unwrap()).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
    }

    #[test]
    fn neither_files_nor_networks_nor_processes_are_on_the_list() {
        let numbers: std::collections::BTreeSet<_> = SYSTEM_CALLS.iter().collect();
        assert_eq!(numbers.len(), SYSTEM_CALLS.len(), "a system call is listed twice");
        for denied in [libc::SYS_openat, libc::SYS_socket, libc::SYS_execve, libc::SYS_kill] {
            assert!(!SYSTEM_CALLS.contains(&denied));
        }
    }
}
