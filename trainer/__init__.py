"""The trainer: trains an image editor on rewards requested over HTTP, with DiffusionNFT or Flow-GRPO. Importing this
package does not import torch.

cli          `edit-r1 train`, `doctor` and `report`
config       every configuration key
doctor       will this configuration run, fit and keep up?
train        the training loop; start reading here
types        the values that pass from one step to the next
run          puts a run together, starts and resumes it, begins and logs its epochs
tasks        task lists, and which tasks an epoch gets
rollout      the old policy edits each task G times
rewards      scoring in the background, over HTTP
mathematics  pure: filter, advantage, objectives, solvers, schedules, alarms
update       kept samples -> losses -> optimizer steps
policy       the trained weights, their copies, checkpoints and export
held_out     evaluation on held-out tasks during training
records      a run's files: metrics, evaluations, images
report       report.html and summary.json
models       one file per model family
machine      processes, sharding, offloading, seeds, progress bars
"""
