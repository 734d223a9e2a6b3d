"""The peers of injection, timed where they run: one JSON line in, the seconds of one call out.

{"peer": "astor" | "libcst" | "papermill", "code": ..., "inputs": {...}, "context": {...}, "calls": N}
"""

import ast
import json
import sys
import time


def of_astor():
    """The reference's way: parse, put the data into the tree, print the tree."""
    import astor

    class Injector(ast.NodeTransformer):
        def __init__(self, data):
            self.data = data

        def visit_Assign(self, node):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id in self.data and isinstance(node.value, ast.Dict):
                node.value = ast.parse(repr(self.data[target.id]), mode="eval").body
            return node

    return lambda code, data: astor.to_source(Injector(data).visit(ast.parse(code)))


def of_libcst():
    import libcst

    class Injector(libcst.CSTTransformer):
        def __init__(self, data):
            super().__init__()
            self.data = data

        def leave_Assign(self, original_node, updated_node):
            target = updated_node.targets[0].target
            is_slot = isinstance(target, libcst.Name) and target.value in self.data
            if is_slot and isinstance(updated_node.value, libcst.Dict):
                return updated_node.with_changes(value=libcst.parse_expression(repr(self.data[target.value])))
            return updated_node

    return lambda code, data: libcst.parse_module(code).visit(Injector(data)).code


def of_papermill():
    """Adds a cell with the data; never looks into the code."""
    import logging

    import nbformat
    from papermill.parameterize import parameterize_notebook

    logging.disable(logging.CRITICAL)

    def inject(code, data):
        cell = nbformat.v4.new_code_cell(code, metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}, "papermill": {}}
        return parameterize_notebook(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), data)

    return inject


PEERS = {"astor": of_astor, "libcst": of_libcst, "papermill": of_papermill}
ready = {}

for line in sys.stdin:
    question = json.loads(line)
    peer, code = question["peer"], question["code"]
    try:
        if peer not in ready:
            ready[peer] = PEERS[peer]()
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        continue
    data = {"inputs": question["inputs"], "context": question["context"]}
    start = time.perf_counter()
    for _ in range(question["calls"]):
        ready[peer](code, data)
    print(json.dumps({"seconds": (time.perf_counter() - start) / question["calls"]}), flush=True)
