"""Reads the project's Markdown, and runs the commands of a page as a reader would: in terminals, comparing what is printed.

Ownership: a Terminals owns its shells and what they started; all end in close().
Units: seconds.
Errors: Mismatch, with file, line, and both texts.
Callers: tests/integration.

A block begins with ```console and, maybe, words:
    $ command                  typed at the prompt; lines that begin with "> " go on with it
    anything else              what is printed then; "..." is any text, alone on a line any lines
    second                     the block is of a second terminal, whose command goes on; without "$" more of its output
    numbers                    a number stands for any number, blanks for any blanks
"""

import os
import re
import select
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIP = {".git", "build", ".cache", "__pycache__", "node_modules"}
WAIT_S = 60.0
MARK = "\x01end-of-command "


class Mismatch(AssertionError):
    """The page says something else than what happens."""


def markdown_files():
    """Paths of all pages, relative to the root."""
    found = []
    for directory, names, files in os.walk(ROOT):
        names[:] = sorted(set(names) - SKIP)
        found += [os.path.relpath(os.path.join(directory, name), ROOT) for name in files if name.endswith(".md")]
    return sorted(found)


def source_files(rooms):
    """Paths of everything else in these directories that is text."""
    found = []
    for room in rooms:
        for directory, names, files in os.walk(os.path.join(ROOT, room)):
            names[:] = sorted(set(names) - SKIP)
            found += [os.path.relpath(os.path.join(directory, name), ROOT) for name in files
                      if not name.endswith((".md", ".png", ".bin", ".pyc"))]
    return found


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as page:
        return page.read()


def prose(text):
    """The text with its fenced blocks emptied; line numbers stay."""
    inside, lines = False, []
    for line in text.split("\n"):
        fence = line.lstrip().startswith("```")
        lines.append("" if inside or fence else line)
        inside ^= fence
    return "\n".join(lines)


def anchors(text):
    """What a link to a heading may name, as GitHub makes it."""
    found = set()
    for heading in re.findall(r"(?m)^#{1,6} +(.*?) *#*$", prose(text)):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number, name = 0, slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def blocks(path, language="console"):
    """(line number, words, lines) of every such block of a page."""
    found, inside = [], None
    for number, line in enumerate(read(path).split("\n"), 1):
        words = line[3:].split()
        if inside is None and line.startswith("```"):
            inside = (number, words[1:], [])
            if words[:1] == [language]:
                found.append(inside)
        elif line.startswith("```"):
            inside = None
        elif inside is not None:
            inside[2].append(line)
    return found


def steps(lines):
    """[(command or None, expected lines)] of a block."""
    found = [(None, [])]
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line[2:], [])
        else:
            found[-1][1].append(line)
    return [step for step in found if step != (None, [])]


def pattern(expected, numbers):
    """A regular expression of what a page shows."""
    text = ""
    for line in expected:
        if line.strip() == "...":
            text += r"(?:.*\n)*"
            continue
        for part in re.split(r"(\.\.\.|\d[\d.:]*| +)", line.rstrip()):
            if part == "...":
                text += ".*"
            elif numbers and re.fullmatch(r"\d[\d.:]*", part):
                text += r"\d[\d.:]*"
            elif numbers and re.fullmatch(" +", part):
                text += " +"
            else:
                text += re.escape(part)
        text += r" *\n"
    return text


class Terminals:
    """Two shells with the same environment: one that a reader types into, one whose command goes on."""

    def __init__(self, env, substitute):
        self.env, self.substitute = env, substitute
        self.shell = subprocess.Popen(["bash"], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, start_new_session=True)
        self.second = self.second_text = None
        self.second_seen = 0

    def close(self):
        """Ends what runs. May be called again."""
        for process in (self.shell, self.second):
            self.end(process)
        if self.second_text:
            self.second_text.close()

    @staticmethod
    def end(process):
        if process is None or process.returncode is not None:
            return
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()

    def type(self, command):
        """Runs one command in the first terminal. Returns what it printed and its exit status."""
        self.shell.stdin.write(f"{command}\nprintf '\\001end-of-command %d\\n' $?\n".encode())
        self.shell.stdin.flush()
        text, deadline = b"", time.monotonic() + WAIT_S
        while not re.search(MARK.encode() + rb"\d+\n$", text):
            ready, _, _ = select.select([self.shell.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.shell.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                raise Mismatch(f"no end of the command; it printed {text.decode()!r}")
            text += chunk
        output, _, status = text.decode().rpartition(MARK)
        if output and not output.endswith("\n"):
            output += "\n"  # a page shows it as a line
        return output, int(status)

    def begin_second(self, command):
        self.end(self.second)
        if self.second_text:
            self.second_text.close()
        self.second_seen = 0
        self.second_text = tempfile.TemporaryFile()
        self.second = subprocess.Popen(["bash", "-c", command], cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL,
                                       stdout=self.second_text, stderr=subprocess.STDOUT, start_new_session=True)

    def watch_second(self, expected):
        """Waits until the second terminal shows this, behind what was expected before."""
        deadline = time.monotonic() + WAIT_S
        while True:
            text = os.pread(self.second_text.fileno(), 1 << 20, 0).decode()[self.second_seen:]
            match = re.match(expected, text)
            if match:
                self.second_seen += match.end()
                return
            if time.monotonic() >= deadline:
                raise Mismatch(f"the second terminal shows\n{text}")
            time.sleep(0.02)

    def run(self, path):
        """Runs all blocks of a page. Returns how many commands there were."""
        count = 0
        for number, words, lines in blocks(path):
            for command, expected in steps([self.substitute(line) for line in lines]):
                wanted = pattern(expected, "numbers" in words)
                count += command is not None
                try:
                    self.step(command, wanted, "second" in words)
                except Mismatch as error:
                    shown = "\n".join(expected)
                    raise Mismatch(f"{path}:{number}: $ {command}\n--- the page\n{shown}\n--- really\n{error}") from None
        return count

    def step(self, command, wanted, second):
        if second:
            if command is not None:
                self.begin_second(command)
            self.watch_second(wanted)
            return
        output, status = self.type(command)
        if status != 0:
            raise Mismatch(f"exit status {status}\n{output}")
        if not re.fullmatch(wanted, output):
            raise Mismatch(output)
