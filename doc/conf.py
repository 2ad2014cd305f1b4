"""What Sphinx builds the manual with: `make doc`."""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import skad  # noqa: E402

project = "skad"
author = "the skad developers"
copyright = f"2026, {author}"
version = release = skad.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "api",
    "changelog",
    "detector_table",
    "mathml",
    "measured",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "literal"
nitpicky = False
show_warning_types = True

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
html_math_renderer = "mathml"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "generated/gallery",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skad",),
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"/(?!plot_)[^/]*\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
    "plot_gallery": "True",
}
# an example that warns says something about skad, or should say why
warnings.filterwarnings("default")
suppress_warnings = ["config.cache"]  # of the function that autosummary is given
# every process of a search, too, leaves the other cores to the other examples
os.environ.setdefault("OMP_NUM_THREADS", "1")

html_theme = "pydata_sphinx_theme"
html_title = "skad"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_js_files = ["sort_tables.js"]
html_copy_source = False
html_show_sourcelink = False
# pages without pages below them leave their place to the text
html_sidebars = {
    "adding_a_detector": [],
    "changelog": [],
    "detectors": [],
    "how_good": [],
    "index": [],
    "installation": [],
    "migration": [],
    "quick_start": [],
    "thresholds": [],
}
html_theme_options = {
    "logo": {"text": "skad"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
}
