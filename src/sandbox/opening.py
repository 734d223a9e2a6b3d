# The first thing in a child: fetches the bootstrap, which is compiled already, and starts it.
import marshal
import posix
import sys


def receive(count):
    parts = []
    while count:
        part = posix.read(3, min(count, 1 << 20))
        if not part:
            posix._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


code = receive(int.from_bytes(receive(4), "big"))
if sys.version != sys.argv[1]:
    # Compiled by another interpreter than this one, which can do nothing with it. The host knows what to say.
    posix.write(3, b"\0\0\0\1V")
    posix._exit(0)
exec(marshal.loads(code), {"receive": receive})
