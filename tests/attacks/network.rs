//! Attempts 29 to 34: the network and sockets of every kind.

use crate::host::Control::{BareRoot, Never, Succeeds};
use crate::host::{Attempt, attempt, filtered};

pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        29,
        "TCP",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.create_connection(('127.0.0.1', PORT), 2)) is not False",
    ),
    attempt(
        29,
        "TCP over IPv6",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.create_connection(('::1', PORT6) if PORT6 else ('127.0.0.1', PORT), 2)) is not False",
    ),
    attempt(
        29,
        "TCP by a message that opens",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket().sendmsg([b'x'], [], 0x20000000, ('127.0.0.1', PORT))) is not False",
    ),
    attempt(
        30,
        "UDP",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', DATAGRAMS))) is not False",
    ),
    attempt(
        30,
        "UDP, connected",
        Succeeds,
        "import socket\ndef f():\n  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n  s.connect(('127.0.0.1', DATAGRAMS))\n  s.send(b'x')\nresult = tried(f)",
    ),
    attempt(
        30,
        "a name from /etc/hosts",
        Succeeds,
        "import socket\nresult = bool(tried(socket.getaddrinfo, 'localhost', 80))",
    ),
    filtered(
        31,
        "a Unix socket",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX)) is not False",
    ),
    attempt(
        31,
        "a service behind a Unix socket",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).connect(FOLDER + '/socket'))",
    ),
    attempt(
        32,
        "a service behind an abstract socket",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).connect('\\0' + TOKEN))",
    ),
    filtered(
        32,
        "an abstract socket of its own",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_UNIX).bind('\\0own-' + TOKEN))",
    ),
    filtered(
        33,
        "netlink",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) is not False",
    ),
    attempt(
        33,
        "a raw socket",
        BareRoot,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) is not False",
    ),
    attempt(
        33,
        "a packet socket",
        BareRoot,
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) is not False",
    ),
    attempt(
        33,
        "a socket to the hypervisor",
        Never("not every machine has one"),
        "import socket\nresult = tried(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 1))) is not False",
    ),
    attempt(
        34,
        "bind and listen",
        Succeeds,
        "import socket\ndef f():\n  s = socket.socket()\n  s.bind(('127.0.0.1', 0))\n  s.listen()\nresult = tried(f)",
    ),
    filtered(
        34,
        "listen without an address",
        Succeeds,
        "import socket\nresult = tried(lambda: socket.socket().listen())",
    ),
];
