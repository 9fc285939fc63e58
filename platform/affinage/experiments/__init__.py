"""Who gets which variant, and what users' judgements say about it.

Pure: `assignment` (unit → arm and its probability), `eprocess` (the tests), `events` (one line of evidence), `replay`
(events → decision), `states` (which transition is allowed), `simulate` (the bounds, checked). Touching the database:
`repository` (rows), `routing` (what the gateway asks), `evidence` (rows → events), `start` (begin,
resume), `operate` (evaluate, stop).

Called by the gateway, the command line, the controller and the demo. The room moves no pointer itself: promotion and
rollback are callables it is given. It knows nothing of engines, documents or prompts.
"""
