"""The system calls a container may make of the host's kernel: a list of what is allowed, everything else is refused.

Refused in two ways. What needs a right the container lacks anyway answers EPERM, as it would without the filter, so
that programs report it as such. What is merely unknown to this list (new calls of new kernels) answers ENOSYS, so
that programs fall back to what they used before.
"""

from __future__ import annotations

import errno

_FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioctl io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit lchown lchown32
    lgetxattr link linkat listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod
    mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 preadv preadv2 pread64 pwritev pwritev2
    pwrite64 read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile sendfile64
    setxattr splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate
    truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_MEMORY = """
    brk get_mempolicy madvise mbind membarrier memfd_create mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
    mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages
    set_mempolicy
"""
_PROCESSES = """
    arch_prctl capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid geteuid32 getgid
    getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid
    getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill modify_ldt pidfd_open
    pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setuid setuid32 sysinfo tgkill times tkill ugetrlimit uname vfork wait4 waitid waitpid
    chroot get_robust_list get_thread_area ptrace process_vm_readv process_vm_writev kcmp landlock_add_rule
    landlock_create_ruleset landlock_restrict_self
"""
_SIGNALS_AND_TIME = """
    alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 adjtimex getitimer gettimeofday nanosleep pause rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo setitimer
    sigaltstack signalfd signalfd4 sigprocmask sigreturn time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64
"""
_WAITING_AND_TALKING = """
    accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername
    getrandom getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd _newselect poll ppoll ppoll_time64 pselect6
    pselect6_time64 recv recvfrom recvmmsg recvmmsg_time64 recvmsg select semctl semget semop semtimedop
    semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair
"""
ALLOWED = tuple(sorted(" ".join((_FILES, _MEMORY, _PROCESSES, _SIGNALS_AND_TIME, _WAITING_AND_TALKING)).split()))

# Named so that they answer "not permitted" instead of "not there".
FORBIDDEN = tuple(
    """
    acct add_key bpf clock_settime clock_settime64 delete_module fanotify_init finit_module fsconfig fsmount fsopen
    fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kexec_file_load kexec_load keyctl
    lookup_dcookie migrate_pages mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree
    perf_event_open pidfd_getfd pivot_root process_madvise quotactl quotactl_fd reboot request_key
    set_mempolicy_home_node setdomainname sethostname setns settimeofday stime swapoff swapon syslog umount umount2
    unshare userfaultfd uselib ustat vhangup vm86 vm86old
    """.split()
)

# Every CLONE_NEW* flag: namespaces are how a process reaches kernel code that is closed to it otherwise.
NEW_NAMESPACES = 0x7E020080
# socketcall is refused too: its family is in memory, where a filter cannot look.
# Address families: unix, IPv4, IPv6, and netlink, which is how programs list their interfaces.
SOCKET_FAMILIES = (1, 2, 10, 16)

# personality(2): Linux, without address randomisation (debuggers), 32-bit, and asking for the present one.
PERSONALITIES = (0x0, 0x0040000, 0x8, 0xFFFFFFFF)

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def profile(machine: str) -> dict[str, object]:
    """The `linux.seccomp` part of a bundle for `machine` (as `uname -m` says it).

    Raises ValueError for a machine whose calls nobody has looked at.
    """
    if machine not in _ARCHITECTURES:
        raise ValueError(f"there is no system call filter for {machine}")
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        "architectures": _ARCHITECTURES[machine],
        "syscalls": [
            {"names": list(ALLOWED), "action": "SCMP_ACT_ALLOW"},
            {"names": list(FORBIDDEN), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM},
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            # Its flags are in memory, where a filter cannot look: told that it is not there, libraries use clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
            *(
                {
                    "names": ["socket"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}],
                }
                for family in SOCKET_FAMILIES
            ),
            *(
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}],
                }
                for value in PERSONALITIES
            ),
        ],
    }
