window.MMCOA_STUDIES = ["openmoji"];
