"""The gallery: some test pictures of a study, attacked one by one, with all that a page needs to show them.

showable: whose pictures may be shown; choice: the rule by which they are taken; attacked: what one model makes of them;
    sheets: the
pictures as files; compute: all of it, into results/PROFILE/gallery; command: `mmcoa gallery PROFILE`.
"""
