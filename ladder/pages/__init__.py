"""The README's tables, the pages in docs/ and their pictures, made from results/ and the scripts.

generate       all of them
rung_page      the page of one rung
tables         the ladder's tables
pictures       its bars, and a step beside its parent's
against_flops  its memory over its FLOPs
drawing        what the pictures are drawn with
comparisons    predictions beside published figures, and beside other tools
others         predictions beside what others measured, and the margins of that
versions       the table of docs/versions.md
combining      the matrix in docs/combining.md
examples       the small scripts in docs/out-of-memory.md and docs/your-model.md
answer_fields  what `vramcast --json` prints, for docs/json.md
terminal       an answer of `vramcast`, for the README
costs          a rung's FLOPs, relative to its parent's and its trunk's
escaping       text of scripts, made safe for each place in a page
markers        where the generated parts of a page stand
"""
