# What a run can do here, found out by trying. Each attempt is said by what came of it: true where it was kept from happening.
import posix


def kept_from(attempt):
    try:
        attempt()
    except (OSError, MemoryError):
        return True
    return False


def connect():
    import _socket

    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).connect(("127.0.0.1", inputs["port"]))


def send_datagram():
    import _socket

    _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", inputs["port"]))


def fork():
    if posix.fork() == 0:
        posix._exit(0)


def execute():
    try:
        posix.execv("/nowhere", ["nowhere"])
    except FileNotFoundError:
        pass


# In a pid namespace the supervisor is process 1, and the host's number means nothing, or something else.
has_numbers_of_its_own = posix.getppid() == 1

result = {
    "files": kept_from(lambda: posix.open(inputs["file"], posix.O_RDONLY))
    and kept_from(lambda: posix.open(inputs["file"], posix.O_WRONLY))
    and kept_from(lambda: posix.chmod(inputs["file"], 0o644)),
    "network": kept_from(connect) and kept_from(send_datagram),
    "processes": kept_from(fork) and kept_from(execute) and (has_numbers_of_its_own or kept_from(lambda: posix.kill(inputs["pid"], 0))),
    "memory": kept_from(lambda: bytearray(inputs["memory"])),
    "privilege": kept_from(lambda: posix.chroot(".")) and kept_from(lambda: posix.setpriority(0, 0, -1)),
    "kill": kept_from(fork) or has_numbers_of_its_own,
}
