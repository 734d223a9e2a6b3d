import skillcache

with skillcache.open(":memory:") as library:
    library.put("mean", "result = sum(inputs['x']) / len(inputs['x'])")
    for run in (library.run("mean", {"x": [1, 2, 6]}) for _ in range(2)):
        print(run.outcome, run.value, "from memory" if run.cached else "executed")
