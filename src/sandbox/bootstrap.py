# What runs in the child before and after the skill. It talks to the host over descriptor 3 alone: a length-prefixed
# JSON job comes in, one length-prefixed frame goes out. A frame is one letter and its payload:
#   S result as JSON       N no result       O result has no JSON form       E exception (JSON)
#   X refused by compile() (JSON)            M out of memory                 C checked (JSON)
# Every import here is paid for by every run: `json` alone doubles the start, so its C half is used directly.
def _main():
    import sys

    posix = sys.modules["posix"]
    channel = 3

    def receive(count):
        parts = []
        while count:
            part = posix.read(channel, min(count, 1 << 20))
            if not part:
                posix._exit(0)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def send(kind, payload=b""):
        if isinstance(payload, str):
            payload = payload.encode("ascii")
        frame = memoryview((1 + len(payload)).to_bytes(4, "big") + kind + payload)
        while frame:
            frame = frame[posix.write(channel, frame) :]
        # The host has all it needs and ends this process; nothing of the skill runs on.
        while posix.read(channel, 1):
            pass
        posix._exit(0)

    class Settings:
        strict, object_hook, object_pairs_hook, memo = True, None, None, {}
        parse_float, parse_int, parse_constant = float, int, None

    def unknown(value):
        raise TypeError("%s is not a JSON value" % type(value).__name__)

    try:
        import _json

        decode = _json.make_scanner(Settings)

        def encode(value):
            quote = _json.encode_basestring_ascii
            parts = _json.make_encoder({}, unknown, quote, None, ":", ",", False, False, False)(value, 0)
            return "".join(parts)

    except (ImportError, AttributeError):
        import json

        decode = json.JSONDecoder().raw_decode

        def encode(value):
            return json.dumps(value, separators=(",", ":"), allow_nan=False, default=unknown)

    # Integers of any size cross the channel; the skill itself keeps the interpreter's own bound.
    bound_digits = getattr(sys, "set_int_max_str_digits", lambda digits: None)
    digits = getattr(sys, "get_int_max_str_digits", lambda: 0)()
    bound_digits(0)
    job = decode(receive(int.from_bytes(receive(4), "big")).decode("utf-8"), 0)
    job = job[0] if isinstance(job, tuple) else job
    bound_digits(digits)
    sys.path.extend(job["path"])
    sys.argv = [""]
    # Every script has these; `-S` leaves them out.
    builtins = sys.modules["builtins"]
    builtins.exit = builtins.quit = sys.exit

    def describe(error, traceback):
        """The members of an error frame. Whatever a skill's own exception does when looked at is contained."""
        try:
            message = str(error)
        except BaseException:
            message = "<the exception could not be shown>"
        report = {"type": type(error).__name__, "message": message[:65536]}
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == "<skill>":
                report["line"] = traceback.tb_lineno
            traceback = traceback.tb_next
        if isinstance(error, SyntaxError):
            report["line"], report["column"] = error.lineno or report.get("line") or 1, error.offset or 1
            report["message"] = str(error.msg)
        if isinstance(error, OSError) and isinstance(error.errno, int):
            report["errno"] = error.errno
        return report

    def show(error, traceback, source):
        import linecache
        import traceback as tracebacks

        lines = source.splitlines(True)
        linecache.cache["<skill>"] = (len(source), None, lines, "<skill>")
        return "".join(tracebacks.format_exception(type(error), error, traceback))[-262144:]

    def build():
        code = compile(job["code"], "<skill>", "exec", dont_inherit=True)
        data = job["slots"]
        consts = tuple(data[c] if type(c) is str and c in data else c for c in code.co_consts)
        return code.replace(co_consts=consts) if data else code

    def refusal(error):
        report = describe(error, None)
        report.setdefault("line", 1)
        report.setdefault("column", 1)
        return encode(report)

    if job["check"]:
        missing = []
        if job["dependencies"]:
            from importlib import metadata, util

            def is_there(name):
                try:
                    if util.find_spec(name.replace("-", "_")) is not None:
                        return True
                except (ImportError, ValueError):
                    pass
                try:
                    return metadata.distribution(name) is not None
                except metadata.PackageNotFoundError:
                    return False

            missing = [name for name in job["dependencies"] if not is_there(name)]
        try:
            build()
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            send(b"X", refusal(error))
        send(b"C", encode({"missing": missing}))

    module = type(sys)("__main__")
    module.__dict__.update(job["globals"])
    module.__dict__["__builtins__"] = builtins
    try:
        code = build()
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        send(b"X", refusal(error))
    source = job["source"] if job["source"] is not None else job["code"]
    sys.modules["__main__"] = module
    reserve = bytearray(1 << 20)
    job = None

    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass

    try:
        exec(code, module.__dict__)
    except MemoryError:
        del reserve
        module.__dict__.clear()
        send(b"M")
    except BaseException as error:
        del reserve
        flush()
        bound_digits(0)
        # The first entry is this file's own `exec`.
        traceback = error.__traceback__.tb_next
        try:
            report = describe(error, traceback)
            try:
                report["traceback"] = show(error, traceback, source)
            except BaseException:
                report["traceback"] = ""
            send(b"E", encode(report))
        except MemoryError:
            send(b"M")
    flush()
    missing = object()
    result = module.__dict__.get("result", missing)
    if result is missing:
        send(b"N")
    bound_digits(0)
    try:
        answer = encode(result)
    except MemoryError:
        del reserve
        send(b"M")
    except BaseException as error:
        send(b"O", encode(describe(error, None)))
    send(b"S", answer)


_main()
