"""``python -m monitor.console.password [--token]``: prints the hashes that go into plant.yaml."""

from __future__ import annotations

import argparse
import getpass
import secrets
import sys

from monitor.console.access import hash_password, hash_token


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m monitor.console.password",
        description="Asks for a password (or reads one line of it from a pipe) and prints its hash for console.users.",
    )
    parser.add_argument("--token", action="store_true", help="makes a token for programs, and prints it and its hash")
    if parser.parse_args().token:
        token = secrets.token_urlsafe(32)
        print(f"token (keep it; it is stored nowhere): {token}\ntoken_sha256: {hash_token(token)}")
        return
    asked = sys.stdin.isatty()
    password = getpass.getpass("Password: ") if asked else sys.stdin.readline().rstrip("\n")
    if asked and getpass.getpass("Again: ") != password:
        sys.exit("the two are not the same")
    if len(password) < 8:
        sys.exit("a password has 8 characters or more")
    print(f"password_hash: {hash_password(password)}")


if __name__ == "__main__":
    main()
