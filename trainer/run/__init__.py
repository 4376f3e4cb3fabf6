"""One run: a configuration and its checked inputs come in; epochs ready for the update, and their records, go out.

preflight      checks everything that needs no model: tasks, metrics, the reward service
resuming       from which checkpoint a run starts
components     configuration -> family, policy, optimizer, loss, reward queue
assembly       the `Run`, fresh or resumed, and writing its checkpoint
pending_epoch  the first half of an epoch: rollouts sent to be scored, scores collected
indicators     indicators of reward hacking, measured each epoch
logbook        metrics, terminal lines and images of each epoch
"""
