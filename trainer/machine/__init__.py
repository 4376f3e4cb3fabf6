"""Where and how a run executes. Independent of training; from the rest of Edit-R1 it imports
only errors.

processes      ranks, collectives, and which process gets which units of work
turns          one process of each node goes first
stopping       signals that end a run in order
sharding       FSDP2
shard_files    named tensors in safetensors files, of which each process writes and reads its shards
compiling      torch.compile for the transformer's blocks
offloading     frozen modules in main memory until they are needed
seeding        seeds that belong to a sample, not to a process
progress       terminal lines and progress bars
nvidia         questions to nvidia-smi
bundled_files  files of the demo world, from a checkout or from the installed wheel
"""
