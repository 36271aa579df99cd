"""A save as the system sees it, by strace: the order of its calls, and what is left where one of them fails.

durable.py LIBRARY          checks
durable.py LIBRARY PATH     saves there, and ends with the status
"""

import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile

OK, IO = 0, 15
N = 800_000
TRACED = "openat,creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,flock,rename,renameat,renameat2,unlink,unlinkat,geteuid"
NOT_DURABLE = 100


class Args(ctypes.Structure):
    """adamw_save_args"""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("path", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("capacity", ctypes.c_size_t),
        ("write", ctypes.c_void_p),
        ("write_data", ctypes.c_void_p),
        ("progress", ctypes.c_void_p),
        ("progress_data", ctypes.c_void_p),
        ("params", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("out_durable", ctypes.POINTER(ctypes.c_uint32)),
    ]


def save(library, path):
    library = ctypes.CDLL(library)
    optimizer, param = ctypes.c_void_p(), (ctypes.c_float * N)(*([1.5] * N))
    assert library.adamw_create(None, ctypes.byref(optimizer)) == OK
    assert library.adamw_add_array(optimizer, b"w", param, ctypes.c_uint64(N), 1, ctypes.byref(ctypes.c_uint32())) == OK
    durable = ctypes.c_uint32(7)
    args = Args(ctypes.sizeof(Args), str(path).encode(), out_durable=ctypes.pointer(durable))
    status = library.adamw_save_to(optimizer, ctypes.byref(args), None)
    assert durable.value in ((0, 1) if status == OK else (7,))
    sys.exit(NOT_DURABLE if durable.value == 0 else status)


def traced(library, path, *options):
    """The status of a save, and the calls that concern its folder, each with the file it is about."""
    with tempfile.NamedTemporaryFile("r") as trace:
        command = ["strace", "-f", "-y", "-qq", "-e", f"trace={TRACED}", *options, "-o", trace.name]
        done = subprocess.run([*command, sys.executable, __file__, library, path], check=False)
        calls = []
        for line in trace:
            if str(path.parent) in line:
                name = re.search(r"(\w+)\(", line)[1]
                # The last of the names: that of a file that is opened, and not of its directory.
                about = re.findall(rf"{re.escape(str(path.parent))}(/[^>\"]*)?[>\"]", line)[-1] or "/"
                calls.append((name, about, line))
        return done.returncode, calls


def check_order(library, path):
    status, calls = traced(library, path)
    assert status == OK, status
    written = [(name, about) for name, about, line in calls if name not in ("openat", "flock")]
    temporary = "/.adamw-000.tmp"
    n_writes = sum(name == "pwrite64" for name, _ in written)
    assert n_writes > 3, written
    assert written[:n_writes] == [("pwrite64", temporary)] * n_writes, written
    ends = [("fsync", temporary), ("renameat", "/"), ("fsync", "/")]
    assert written[n_writes:] == ends, written[n_writes:]
    made = [line for name, _, line in calls if name == "openat" and "O_CREAT" in line]
    assert len(made) == 1 and "O_EXCL" in made[0] and temporary in made[0], made


def check_faults(library, path):
    for call, when in [("pwrite64", 1), ("pwrite64", 3), ("pwrite64", 9), ("fsync", 1), ("renameat", 1), ("fsync", 2)]:
        for error in ("EIO", "ENOSPC"):
            for before in (b"what was there before", None):
                path.unlink(missing_ok=True)
                if before is not None:
                    path.write_bytes(before)
                status, calls = traced(library, path, "-e", f"inject={call}:error={error}:when={when}")
                case = (call, when, error, before)
                assert any("INJECTED" in line for _, _, line in calls), case
                assert status == IO, (case, status)
                names = [file.name for file in path.parent.iterdir()]
                if (call, when) == ("fsync", 2):
                    assert names == [path.name] and path.stat().st_size > 8 * N, case
                else:
                    assert names == [path.name] * (before is not None), (case, names)
                    assert before is None or path.read_bytes() == before, case


def check_what_is_not_there(library, path):
    """A file system that does less is no failure, and whoever it says that files belong to: see `NOT_DURABLE`."""
    for fault, expected in [
        ("ftruncate:error=EINVAL", OK),
        ("geteuid:retval=12345", OK),
        ("flock:error=EOPNOTSUPP", OK),
        ("fsync:error=EINVAL:when=2", NOT_DURABLE),
        ("fsync:error=EOPNOTSUPP:when=2", NOT_DURABLE),
        ("fsync:error=ENOSYS", NOT_DURABLE),
    ]:
        for _ in range(2):
            status, _ = traced(library, path, "-e", f"inject={fault}")
            assert status == expected, (fault, status)
            assert [file.name for file in path.parent.iterdir()] == [path.name], fault
            assert path.stat().st_size > 8 * N, fault
        path.unlink()


def main():
    library = str(pathlib.Path(sys.argv[1]).resolve())
    if len(sys.argv) > 2:
        save(library, sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder).resolve() / "state"
        check_order(library, path)
        check_faults(library, path)
        path.unlink(missing_ok=True)
        check_what_is_not_there(library, path)


main()
