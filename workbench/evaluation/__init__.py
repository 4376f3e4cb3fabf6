"""`edit-r1 evaluate`: runs an editor on a benchmark, has a judge score it, and writes the papers' tables.

cli                the commands
evaluating         the steps of an evaluation, in order
benchmarks         ImgEdit-Bench and GEdit-Bench as their authors publish them
editors            which editor is evaluated
process_share      which of several processes this one is
generating         edits every item once, resumable
rubrics            each benchmark's questions, in our words unless --prompts, and how answers are read
judging            asks the judge; keeps every answer
parsing            scores in a judge's text; pure
aggregation        scores of samples -> the numbers of a table; pure
published          rows that papers print, for comparison
results            results.json
output             tables, galleries and files
comparison         two editors item by item; pure
comparison_report  the report of such a comparison
"""
