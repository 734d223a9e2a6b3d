"""Peers of the store, timed where they run: one JSON line in, the seconds of one call out.

{"folder": ..., "calls": N}: reads of 2 kB by key from a diskcache of 10,000 in a folder of its own.
"""

import json
import sys
import time

cache = None

for line in sys.stdin:
    question = json.loads(line)
    if cache is None:
        try:
            import diskcache
        except ImportError as error:
            print(json.dumps({"missing": str(error)}), flush=True)
            continue
        cache = diskcache.Cache(question["folder"])
        for number in range(10_000):
            cache.set(f"skill{number}", "x" * 2000)
    calls = question["calls"]
    start = time.perf_counter()
    for number in range(calls):
        cache.get(f"skill{number * 7919 % 10_000}")
    print(json.dumps({"seconds": (time.perf_counter() - start) / calls}), flush=True)
