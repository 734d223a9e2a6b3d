package skillcache

/*
#include <skillcache.h>
*/
import "C"

import "encoding/json"

// An ImportReport says what became of the skills of a file or folder.
type ImportReport struct {
	// Format is bundle, markdown or reference.
	Format   string          `json:"format"`
	Imported []ImportedSkill `json:"imported"`
	// Unchanged counts those whose content was there already, Skipped those that OnConflict left alone.
	Unchanged uint64 `json:"unchanged"`
	Skipped   uint64 `json:"skipped"`
	// Rejected are those that could not be read or were refused; the others are imported.
	Rejected []Rejection `json:"rejected"`
	Notes    []Note      `json:"notes"`
}

// An ImportedSkill is a skill that an import has put.
type ImportedSkill struct {
	ID string `json:"id"`
	// Version is 0 in a dry run.
	Version uint32 `json:"version"`
	Source  string `json:"source"`
}

// A Rejection is a skill that was not imported or exported.
type Rejection struct {
	// Source is where it stands below the path.
	Source string `json:"source"`
	// ID is empty if it is not known.
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// A Note is what is worth knowing about a skill that was imported or exported.
type Note struct {
	Source string `json:"source"`
	Note   string `json:"note"`
}

// ImportOptions say how to import; the zero value finds out the format and makes new versions.
type ImportOptions struct {
	// Format is bundle, markdown or reference; empty for what is found there.
	Format string `json:"format,omitempty"`
	// OnConflict is what to do with ids that are there with other content: new_version, skip or fail.
	OnConflict string `json:"on_conflict,omitempty"`
	// DryRun checks everything and stores nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Import stores the skills of a bundle file, a folder of SKILL.md folders or a folder of the reference system's JSON files.
// An error that stops it carries what was done before in Error.Report.
func (l *Library) Import(path string, options ImportOptions) (report ImportReport, err error) {
	text, err := l.exchange(path, options, func(
		library *C.skc_library, path, options *C.char, out **C.skc_blob, left **C.skc_error,
	) C.skc_status {
		return C.skc_library_import(library, path, options, out, left)
	})
	if err != nil {
		return report, err
	}
	return report, json.Unmarshal(text, &report)
}

// ExportOptions say what to export and how; the zero value writes the newest versions of all skills to a new bundle.
type ExportOptions struct {
	// Format is bundle, markdown or reference.
	Format string `json:"format,omitempty"`
	// IDs are the skills; nil for those that pass the filter, empty for none.
	IDs []string `json:"ids"`
	// Filter is a JSON object, as List takes it; empty for all skills.
	Filter json.RawMessage `json:"filter,omitempty"`
	// Versions is newest or all; all is for bundles.
	Versions string `json:"versions,omitempty"`
	// Overwrite replaces what is there.
	Overwrite bool `json:"overwrite,omitempty"`
}

// An ExportReport says what was written.
type ExportReport struct {
	Format string `json:"format"`
	// Exported counts skills, Versions the versions of them.
	Exported uint64      `json:"exported"`
	Versions uint64      `json:"versions"`
	Rejected []Rejection `json:"rejected"`
	// Notes say what the format could not keep.
	Notes []Note `json:"notes"`
}

// Export writes skills to a bundle file or a folder, which appears when it is whole.
func (l *Library) Export(path string, options ExportOptions) (report ExportReport, err error) {
	text, err := l.exchange(path, options, func(
		library *C.skc_library, path, options *C.char, out **C.skc_blob, left **C.skc_error,
	) C.skc_status {
		return C.skc_library_export(library, path, options, out, left)
	})
	if err != nil {
		return report, err
	}
	return report, json.Unmarshal(text, &report)
}

func (l *Library) exchange(path string, options any, call func(
	library *C.skc_library, path, options *C.char, out **C.skc_blob, left **C.skc_error,
) C.skc_status) ([]byte, error) {
	asked, err := json.Marshal(options)
	if err != nil {
		return nil, newError(C.SKC_E_INVALID, err.Error())
	}
	var copies texts
	defer copies.free()
	place, wanted := copies.copy(path, "path"), copies.copy(string(asked), "options")
	if copies.err != nil {
		return nil, copies.err
	}
	return l.document(func(library *C.skc_library, out **C.skc_blob, left **C.skc_error) C.skc_status {
		return call(library, place, wanted, out, left)
	})
}
