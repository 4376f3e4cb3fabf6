"""The embedded default: 32x32 scenes of coloured shapes, six edit tasks, an oracle, a tiny judge and a tiny editor.

demo            `make demo`
readme_picture  the README's picture
data_set        `edit-r1 data shapes`
world           scenes, tasks and the oracle
training        how the tiny editor and the tiny judge are trained
studies         how well judges agree with the oracle, and what training changes
"""
