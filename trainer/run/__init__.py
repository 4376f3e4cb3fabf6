"""One run: checks its inputs, assembles it from its configuration, begins its epochs and logs them.

true_cfg       true classifier-free guidance of a run, and whether its model has it
preflight      checks everything that needs no model: tasks, metrics, the reward service
resuming       which checkpoint a run starts from
components     configuration -> family, policy, optimizer, loss, reward queue
assembly       builds the `Run`, fresh or resumed, and writes its checkpoints
pending_epoch  the first half of an epoch: rollouts sent to be scored, scores collected
indicators     indicators of reward hacking, measured each epoch
logbook        metrics, terminal lines and images of each epoch
"""
