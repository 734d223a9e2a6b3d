"""The kept corpora of the fuzz targets: one JSON string a line, to be read, compared and tested without a fuzzer.

kept.py expand TARGET FOLDER     writes the inputs as files into FOLDER, for the fuzzer to start from
kept.py collect TARGET FOLDER    keeps the files of FOLDER (minimized: cargo fuzz cmin) instead
"""

import hashlib
import json
import pathlib
import sys

action, target, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
kept = pathlib.Path(__file__).parent / "kept" / f"{target}.jsonl"

if action == "expand":
    folder.mkdir(parents=True, exist_ok=True)
    for line in kept.read_text(encoding="utf-8").splitlines():
        data = json.loads(line).encode()
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
else:
    texts = set()
    for path in folder.iterdir():
        try:
            texts.add(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            continue  # The targets take text; such an input does nothing.
    kept.parent.mkdir(exist_ok=True)
    with kept.open("w", encoding="utf-8") as file:
        for text in sorted(texts, key=lambda text: (len(text), text)):
            file.write(json.dumps(text) + "\n")
