"""Turns task lists into each epoch's groups, the same on every process.

columns        which columns of a data set make its tasks
list_names     what the name of a task list means
task_line      one line of a list, as it is written
row_reading    columns of any data set -> task line and embedded pictures
rows           the rows of a list, one by one
data_sets      lists that the `datasets` library reads
index_builder  checks a list and writes its table, once a node
task_table     the table in its cache, memory-mapped
task_summary   counts and sizes of a list
task_list      a list's tasks, built on demand; loads source images
group_sampler  which tasks an epoch gets
"""
