"""The command line, which notes in a file (the first argument) each address beyond loopback that it asks for."""

import ipaddress
import socket
import sys

from scenelab.cli import entry_point

NOTES = sys.argv.pop(1)
connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo


def note(host: object) -> None:
    host = host.decode() if isinstance(host, bytes) else host
    try:
        is_local = host in (None, "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        with open(NOTES, "a") as file:
            file.write(f"{host}\n")


def noted_connect(self, address):
    note(address[0] if isinstance(address, tuple) else None)
    return connect(self, address)


def noted_getaddrinfo(host, *rest, **options):
    note(host)
    return getaddrinfo(host, *rest, **options)


if __name__ == "__main__":
    socket.socket.connect, socket.getaddrinfo = noted_connect, noted_getaddrinfo
    entry_point()
