"""The documentation as a site (`make docs`): Sphinx reads the Markdown and the notebooks where they lie.

The source folder is the repository, so one relative link works on a code-hosting site and in the built pages. Links to
files that are no pages (code, params, CSVs) become copies that open offline.
"""

from medstudy import __version__

project = "medstudy"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LOG.md",
    "benchmarks/**.md",
    "docs/**.md",
    "figures/offline/README.md",
    "figures/offline-full/README.md",
    "figures/probe/README.md",
    "figures/real/README.md",
    "medstudy/**/README.md",
    "notebooks/**.ipynb",
]
exclude_patterns = [".*", "build", "lab", "node_modules", "runs", "**/.ipynb_checkpoints"]
extensions = ["myst_nb"]

myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "off"  # a study executes them; the site shows the committed ones

html_theme = "furo"
html_title = "medstudy"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_extra_path = ["index.html"]  # leads from the top of the site to its first page
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
