"""Edit-R1 under one name that no other distribution has: `edit_r1.trainer`, `edit_r1.reward_service`, ...

In a checkout `shared`, `reward_service`, `trainer`, `workbench` and `worlds` link to the folders at the top of the
repository; the wheel contains the folders themselves. Always import by the full name: a module that is imported both as
`edit_r1.trainer.config` and as `trainer.config` exists twice.
"""
