"""The recipes of docs/ci.md as their runners take them: shell scripts, each with what it is called.

    ci_recipes.py GitHub|GitLab      prints the recipe as one script for `sh -e`
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def section(heading):
    """{the language of a block: its text} of a section of docs/ci.md."""
    with open(os.path.join(ROOT, "docs", "ci.md"), encoding="utf-8") as file:
        text = re.search(rf"^## {heading}[^\n]*\n(.*?)(?=^## |\Z)", file.read(), re.M | re.S)[1]
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S))


def github():
    """[(name, script)]: each step has a shell of its own."""
    steps = re.findall(r"^ +- name: (.*)\n +run: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", section("GitHub")["yaml"], re.M)
    return [(name, re.sub(r"^ {10}", "", block, flags=re.M) or line + "\n") for name, block, line in steps]


def gitlab():
    """[(name, script)]: the lines of before_script and script go into one shell."""
    yaml = section("GitLab")["yaml"]
    steps = [re.search(rf"^  {name}:\n((?:    - .*\n)+)", yaml, re.M)[1] for name in ("before_script", "script")]
    return [("all", re.sub(r"^    - ", "", "".join(steps), flags=re.M))]


RECIPES = {"GitHub": github, "GitLab": gitlab}

if __name__ == "__main__":
    for _, text in RECIPES[sys.argv[1]]():
        print(f"(\n{text})")
