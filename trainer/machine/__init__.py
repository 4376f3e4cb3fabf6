"""Where and how a run executes. Independent of training; imports nothing else from Edit-R1.

processes      ranks, collectives, and which process gets which groups
turns          one process of each node goes first
stopping       signals that end a run in order
sharding       FSDP2
offloading     frozen modules in main memory until they are needed
seeding        seeds that belong to a sample, not to a process
progress       terminal lines and progress bars
nvidia         questions to nvidia-smi
bundled_files  files of the demo world, from a checkout or from the installed wheel
"""
