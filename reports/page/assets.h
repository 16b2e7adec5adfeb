// SPDX-License-Identifier: Apache-2.0
//
// The files the page is made of, as they were when this was built. See the
// rule embedded_text in harness/embed.bzl.

#ifndef MNEME_REPORTS_PAGE_ASSETS_H_
#define MNEME_REPORTS_PAGE_ASSETS_H_

#include <string>

namespace mneme {

const std::string& PageTemplate();                // page.mustache
const std::string& PageStyle();                   // page.css
const std::string& HeatMapStyle();                // heat_map.css
const std::string& PageScript();                  // page.js
const std::string& ChartScript();                 // Vega and charts.js
const std::string& LearningCurveTemplate();       // learning_curve.vega.json
const std::string& StateChartTemplate();          // state.vega.json
const std::string& LengthChartTemplate();         // length.vega.json
const std::string& CapacityChartTemplate();       // capacity.vega.json
const std::string& ApproximationChartTemplate();  // approximation.vega.json
const std::string& SpeedLengthChartTemplate();    // speed_length.vega.json
const std::string& AccuracySpeedChartTemplate();  // accuracy_speed.vega.json

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_ASSETS_H_
