"""The trainer: trains an image editor with DiffusionNFT on rewards requested over HTTP. Does not import torch.

cli          `edit-r1 train`, `doctor` and `report`
config       every configuration key
doctor       will this configuration run, fit and keep up?
train        the training loop; start reading here
types        the values passed from one step to the next
run          assembles, starts and resumes a run; begins and logs its epochs
tasks        task lists, and which tasks an epoch gets
rollout      the old policy edits each task G times
rewards      scoring in the background, over HTTP
mathematics  pure: advantage, filter, objectives, solvers, schedules
update       kept samples -> losses -> optimizer steps
policy       the trained weights, their copies, checkpoints and export
held_out     evaluation on held-out tasks during training
records      a run's files: metrics, evaluations, images
report       report.html and summary.json
models       one file per model family
machine      processes, sharding, offloading, seeds, progress bars
"""
