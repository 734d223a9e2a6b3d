"""Serves the metrics of a library to Prometheus: python3 examples/metrics_server.py [skills.db [port]]."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import skillcache


def server(library, port):
    """A server of this machine alone; a host has a thread of its own call its `serve_forever`."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self):
            text = library.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """Says nothing of each request."""

    return ThreadingHTTPServer(("127.0.0.1", port), Metrics)


if __name__ == "__main__":
    database = sys.argv[1] if len(sys.argv) > 1 else ":memory:"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 9464
    with skillcache.open(database) as library, server(library, port) as http:
        print(f"http://127.0.0.1:{http.server_port}/metrics", flush=True)
        http.serve_forever()
