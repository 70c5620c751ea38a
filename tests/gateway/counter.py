# SPDX-License-Identifier: MIT
"""A small service in python3: an HTTP server that counts in memory and knows a table by heart."""
import http.server
import sys

TABLE = [f"{i * 7919 % 100003:08d}" * 16 for i in range(100000)]


class Handler(http.server.BaseHTTPRequestHandler):
    count = 0

    def do_GET(self):
        Handler.count += 1
        row = int(self.path.strip("/"))
        body = f"{Handler.count} {TABLE[row][:8]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
