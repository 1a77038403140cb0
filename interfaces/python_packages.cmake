# For CMAKE_PROJECT_INCLUDE: lets packages build against ROS 2 wheels from PyPI, in two thirds of the
# time. Both functions are called when the whole CMakeLists.txt has been read.
cmake_language(DEFER CALL drop_missing_includes)
cmake_language(DEFER CALL unite_sources)

# The wheels' imported targets also name include folders of the machine that built the wheels. CMake
# refuses folders that do not exist.
function(drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

# One compilation per library instead of one per message, where the generated sources allow it: most
# of the time goes into the headers of C++.
function(unite_sources)
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    if(target MATCHES "__rosidl_typesupport_(cpp|fastrtps_cpp|fastrtps_c)$")
      set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    endif()
  endforeach()
endfunction()
