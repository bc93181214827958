window.MMCOA_STUDIES = ["openmoji", "photos"];
