"""Turns task lists into each epoch's groups, the same on every process.

task_list      reads and checks task lists, loads source images
group_sampler  which tasks an epoch gets
"""
