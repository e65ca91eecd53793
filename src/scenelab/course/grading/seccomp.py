"""Seccomp filter of the sandbox: a BPF program that libseccomp generates for this machine's architecture.

The deny list follows the default profiles of Docker and Flatpak: system calls that a numerical program never needs fail
with EPERM. `clone3` fails with ENOSYS, because a filter cannot see its flags; libc then uses `clone`.
"""

import ctypes
import errno
import tempfile
from functools import cache

ALLOW = 0x7FFF0000  # seccomp.h: SCMP_ACT_ALLOW
DENY = 0x00050000  # SCMP_ACT_ERRNO(0)
EQUAL, GREATER, MASKED_EQUAL = 4, 6, 7  # enum scmp_compare

DENIED = """
    ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp perf_event_open bpf userfaultfd io_uring_setup
    io_uring_enter io_uring_register keyctl add_key request_key syslog acct lookup_dcookie quotactl quotactl_fd
    fanotify_init vmsplice migrate_pages move_pages shmget shmat shmctl msgget semget mq_open memfd_create memfd_secret
    mount umount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr unshare
    setns name_to_handle_at open_by_handle_at mknod mknodat reboot swapon swapoff kexec_load kexec_file_load
    init_module finit_module delete_module create_module query_module get_kernel_syms nfsservctl uselib ustat vm86
    vm86old iopl ioperm modify_ldt settimeofday stime clock_settime clock_settime64 adjtimex clock_adjtime
    clock_adjtime64 sethostname setdomainname vhangup
""".split()
"""System calls that reach other processes, kernel state, unlimited memory, mounts or settings of the machine."""
TRIED = "ptrace process_vm_readv perf_event_open bpf userfaultfd io_uring_setup keyctl add_key".split()
TRIED += "mount unshare setns clone3 socket".split()  # system calls that the self-test tries
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: AF_VSOCK, AF_NETLINK and all others are refused
LAST_FAMILY = 63  # above every address family of Linux
NAMESPACES = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""Flags of clone that create a namespace: CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
TERMINAL = (0x5412, 0x541C)  # ioctl: TIOCSTI and TIOCLINUX insert input into the caller's terminal


class _Comparison(ctypes.Structure):  # struct scmp_arg_cmp
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def numbers(*names: str) -> dict[str, int]:
    """Return the system call numbers of this architecture by name (default: `TRIED`), or {} without libseccomp."""
    library = _library()
    if library is None:
        return {}
    resolved = {name: library.seccomp_syscall_resolve_name(name.encode()) for name in names or TRIED}
    return {name: number for name, number in resolved.items() if number >= 0}


@cache
def build_filter() -> bytes | None:
    """Return the filter as a BPF program, or None if libseccomp is not installed or refuses a rule."""
    library = _library()
    context = ctypes.c_void_p(None if library is None else library.seccomp_init(ALLOW))
    if library is None or not context:
        return None

    def deny(name: str, *comparisons: tuple[int, int, int, int], error: int = errno.EPERM) -> bool:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return True
        rules = (_Comparison * len(comparisons))(*(_Comparison(*each) for each in comparisons))
        return library.seccomp_rule_add_array(context, DENY | error, number, len(comparisons), rules) == 0

    try:
        added = [deny("clone3", error=errno.ENOSYS), *map(deny, DENIED)]
        added += [deny("clone", (0, MASKED_EQUAL, flag, flag)) for flag in NAMESPACES]
        added += [deny("ioctl", (1, MASKED_EQUAL, 0xFFFFFFFF, request)) for request in TERMINAL]
        added += [deny("socket", (0, EQUAL, family, 0)) for family in range(LAST_FAMILY + 1) if family not in FAMILIES]
        added += [deny("socket", (0, GREATER, LAST_FAMILY, 0))]
        if not all(added):
            return None
        with tempfile.TemporaryFile() as file:
            if library.seccomp_export_bpf(context, file.fileno()) != 0:
                return None
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)
