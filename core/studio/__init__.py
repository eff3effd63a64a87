"""The app without the page.

On the ground floor `frames` (pictures and what is measured of them), `device` (whose turn it is) and `turns` (which
request is out of date); above them what every tab uses: `measuring`, `library`, `sample`, `edit`, `train`; then a
folder for each larger tab; and on the roof `visit`, all that touches a visitor's session. Work is a `Job`.
"""
