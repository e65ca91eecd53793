"""A loopback server of one folder that knows range requests."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Range(BaseHTTPRequestHandler):
    """Files of a folder with range requests; the first `drops` answers end in the middle."""

    folder: Path
    drops = 0
    ranges = True
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = (self.folder / Path(self.path).name).read_bytes()
        part, status = data, 200
        if self.ranges and (wanted := self.headers.get("Range")):
            start, end = map(int, wanted.removeprefix("bytes=").split("-"))
            part, status = data[start : end + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if type(self).drops and status == 206:
            type(self).drops -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.wfile.write(part)

    def log_message(self, *arguments):
        pass
