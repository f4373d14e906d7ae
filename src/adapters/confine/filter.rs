//! The system calls that no run may make (BND-2). Arguments are compared on their low 32 bits, the part the kernel
//! uses: a 64-bit comparison let `TIOCSTI` through.

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

/// How much is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strength {
    /// New namespaces and mounts.
    pub namespaces: bool,
    /// What Landlock on its own leaves open.
    pub alone: bool,
    /// With `alone`: every `socket`.
    pub sockets: bool,
}

/// The second ABI of the same architecture on x86-64. Its numbers start here, and none of our rules match them.
const X32: u32 = 0x4000_0000;
const SET_ID: [i64; 2] = [0o4000, 0o2000];
/// `CLONE_NEW…` of mount, cgroup, UTS, IPC, user, PID and network namespaces.
const NEW: [i64; 7] = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
/// `CLONE_NEWTIME`, whose bit `clone` reads as part of the signal number.
const NEW_TIME: i64 = 0x80;

/// Refuses what `strength` says, from now on and in everything started later. Needs `no_new_privs`. Fails if the kernel
/// has no filters.
pub(super) fn apply(strength: Strength) -> io::Result<()> {
    for program in programs(strength)? {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn programs(strength: Strength) -> io::Result<Vec<BpfProgram>> {
    let mut all = Vec::new();
    if cfg!(target_arch = "x86_64") {
        all.push(no_x32());
    }
    for (rules, errno) in [(refused(strength)?, libc::EPERM), (unknown(strength), libc::ENOSYS)] {
        let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(rules.0, SeccompAction::Allow, refuse, arch).map_err(io::Error::other)?;
        // seccompiler's own code ends the process at a call of another architecture.
        all.push(filter.try_into().map_err(io::Error::other)?);
    }
    Ok(all)
}

/// Ends the process at a call of the x32 ABI, which reports the same architecture.
fn no_x32() -> BpfProgram {
    let op = |code: u16, jt: u8, jf: u8, k: u32| sock_filter { code, jt, jf, k };
    vec![
        // Load the call's number; is it X32 or above?
        op(0x20, 0, 0, 0),
        op(0x35, 0, 1, X32),
        // KILL_PROCESS, ALLOW.
        op(0x06, 0, 0, 0x8000_0000),
        op(0x06, 0, 0, 0x7fff_0000),
    ]
}

/// Rules by call. A call is refused if any of its rules matches; a call without rules is always refused.
#[derive(Default)]
struct Rules(BTreeMap<i64, Vec<SeccompRule>>);

/// One argument's test.
#[derive(Clone, Copy)]
enum Test {
    Is(u8, i64),
    Not(u8, i64),
    /// All bits of the mask are set.
    Has(u8, i64),
    /// These bits have this value.
    Bits(u8, i64, i64),
}

impl Rules {
    fn always(&mut self, calls: &[i64]) {
        for call in calls {
            self.0.insert(*call, Vec::new());
        }
    }

    /// Refuses `call` if all of `tests` match.
    fn when(&mut self, call: i64, tests: &[Test]) -> io::Result<()> {
        let condition = |test: &Test| {
            let (index, op, value) = match *test {
                Test::Is(index, value) => (index, SeccompCmpOp::Eq, value),
                Test::Not(index, value) => (index, SeccompCmpOp::Ne, value),
                Test::Has(index, mask) => (index, SeccompCmpOp::MaskedEq(mask.unsigned_abs()), mask),
                Test::Bits(index, mask, value) => (index, SeccompCmpOp::MaskedEq(mask.unsigned_abs()), value),
            };
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value.unsigned_abs())
        };
        let conditions: Result<Vec<_>, _> = tests.iter().map(condition).collect();
        let rule = conditions.and_then(SeccompRule::new).map_err(io::Error::other)?;
        match self.0.entry(call) {
            Entry::Vacant(free) => {
                free.insert(vec![rule]);
            }
            // A call that is always refused stays so.
            Entry::Occupied(there) if there.get().is_empty() => {}
            Entry::Occupied(mut there) => there.get_mut().push(rule),
        }
        Ok(())
    }
}

fn refused(strength: Strength) -> io::Result<Rules> {
    let mut rules = Rules::default();
    rules.always(&[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
    ]);
    // TIOCSTI, TIOCLINUX.
    for request in [0x5412, 0x541c] {
        rules.when(libc::SYS_ioctl, &[Test::Is(1, request)])?;
    }
    set_ids(&mut rules)?;
    if strength.namespaces {
        namespaces(&mut rules)?;
    }
    if strength.alone {
        alone(&mut rules)?;
    }
    if strength.alone && strength.sockets {
        rules.always(&[libc::SYS_socket]);
    } else {
        for family in [libc::AF_VSOCK, libc::AF_PACKET] {
            rules.when(libc::SYS_socket, &[Test::Is(0, family.into())])?;
        }
    }
    Ok(rules)
}

/// No file gets a setuid or setgid bit, which would lend its owner's account to whoever runs it.
fn set_ids(rules: &mut Rules) -> io::Result<()> {
    // The mode in `open` and `openat` counts only if a file is created.
    const TMPFILE: i64 = 0o20_000_000;
    let made = [i64::from(libc::O_CREAT), TMPFILE];
    for bit in SET_ID {
        let mut plain = vec![
            (libc::SYS_fchmod, 1),
            (libc::SYS_fchmodat, 2),
            // fchmodat2, newer than some libraries' names.
            (452, 2),
            (libc::SYS_mknodat, 2),
            (libc::SYS_mkdirat, 2),
        ];
        let mut opens = vec![(libc::SYS_openat, 2)];
        #[cfg(target_arch = "x86_64")]
        {
            plain.extend([(libc::SYS_chmod, 1), (libc::SYS_creat, 1), (libc::SYS_mknod, 1), (libc::SYS_mkdir, 1)]);
            opens.push((libc::SYS_open, 1));
        }
        for (call, mode) in std::mem::take(&mut plain) {
            rules.when(call, &[Test::Has(mode, bit)])?;
        }
        for (call, flags) in std::mem::take(&mut opens) {
            for how in made {
                rules.when(call, &[Test::Has(flags, how), Test::Has(flags + 1, bit)])?;
            }
        }
    }
    Ok(())
}

fn namespaces(rules: &mut Rules) -> io::Result<()> {
    for flag in NEW {
        rules.when(libc::SYS_clone, &[Test::Has(0, flag)])?;
    }
    for flag in NEW.into_iter().chain([NEW_TIME]) {
        rules.when(libc::SYS_unshare, &[Test::Has(0, flag)])?;
    }
    rules.always(&[
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
    ]);
    Ok(())
}

/// What Landlock does not cover: sockets by path, raw protocols, limits and priorities of other processes, System V and
/// POSIX message objects.
fn alone(rules: &mut Rules) -> io::Result<()> {
    let (inet, inet6, netlink) = (libc::AF_INET.into(), libc::AF_INET6.into(), libc::AF_NETLINK.into());
    rules.when(libc::SYS_socket, &[Test::Not(0, inet), Test::Not(0, inet6), Test::Not(0, netlink)])?;
    rules.when(libc::SYS_socket, &[Test::Is(0, netlink), Test::Not(2, libc::NETLINK_ROUTE.into())])?;
    for family in [inet, inet6] {
        let (tcp, udp) = (libc::IPPROTO_TCP.into(), libc::IPPROTO_UDP.into());
        rules.when(libc::SYS_socket, &[Test::Is(0, family), Test::Not(2, 0), Test::Not(2, tcp), Test::Not(2, udp)])?;
        // SOCK_RAW without a protocol; flags of the type are above these bits.
        rules.when(libc::SYS_socket, &[Test::Is(0, family), Test::Bits(1, 0xf, libc::SOCK_RAW.into())])?;
    }
    rules.when(libc::SYS_socketpair, &[Test::Not(0, libc::AF_UNIX.into())])?;
    for call in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
    ] {
        rules.when(call, &[Test::Not(0, 0)])?;
    }
    // PRIO_PROCESS is 0, IOPRIO_WHO_PROCESS is 1.
    for (call, process) in [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)] {
        rules.when(call, &[Test::Not(0, process)])?;
        rules.when(call, &[Test::Not(1, 0)])?;
    }
    rules.always(&[
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_semctl,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_msgctl,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
    ]);
    Ok(())
}

/// Calls whose arguments can't be read here. They fail as unknown, so that programs fall back to older ones.
fn unknown(strength: Strength) -> Rules {
    let mut rules = Rules::default();
    rules.always(&[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_openat2]);
    if strength.namespaces {
        rules.always(&[libc::SYS_clone3]);
    }
    rules
}
