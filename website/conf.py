"""Settings of Sphinx."""

project = "Finetune a vision transformer in a fraction of the GPU memory"
author = "the authors of this repository"
copyright = author
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
highlight_language = "none"
html_theme = "furo"
html_title = "The ladder"
html_static_path = ["_static"]
html_css_files = ["explorer.css"]
html_js_files = [("explorer.js", {"defer": "defer"})]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp"
