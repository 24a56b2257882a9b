"""The operators' page: is anything wrong, where, show me.

history.py   scores, alerts, verdicts, statuses in SQLite; written by a thread of its own
reading.py   what is asked of the history; on connections of its own
wall.py      every camera as it is now, and what changed since
access.py    who may look and who may act: passwords, tokens, sessions, foreign pages
guard.py     what every request must pass, and the headers of every answer
answers.py   the shapes of the API's answers (OpenAPI)
api.py       the routes
service.py   all of it together: what the monitor mounts and feeds
playable.py  a copy of a clip that browsers play
password.py  prints the hashes that go into plant.yaml
catalogue.py verdicts → a list of videos that training reads
static/      the page; texts/ its words, one file a language
"""
