"""`edit-r1 evaluate`: runs an editor on a benchmark, has a judge score it, and writes the papers' tables.

cli           the commands
evaluating    the steps of an evaluation, in order
benchmarks    ImgEdit-Bench and GEdit-Bench as their authors publish them
editors       selects the editor to evaluate
ranks         this process's rank among several
generating    edits every item once, resumable
rubrics       each benchmark's questions to the judge, and how answers are read
judging       asks the judge and stores every answer
parsing       scores in a judge's text; pure
aggregation   scores of samples -> the numbers of a table; pure
published     rows that papers print, for comparison
results       results.json
output        tables, galleries and files
comparing     two editors item by item; pure
side_by_side  the report of such a comparison
"""
